import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Consumes, transforms and produces in transactions by Kafka's own client, of the version on the class path. compat's
 * txn_clients.go says what the arguments are and what is printed.
 *
 * <p>Usage: Transform BOOTSTRAP transform IN OUT GROUP ID SEED HOLD PROTOCOL
 *
 * <p>Usage: Transform BOOTSTRAP read TOPIC PARTITIONS
 *
 * <p>For the mode late see Late.
 */
public final class Transform {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    private static final int CHUNK = 40;

    private Transform() {
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err);
        if (args[1].equals("read")) {
            read(args[0], args[2], Integer.parseInt(args[3]), "read_committed");
            read(args[0], args[2], Integer.parseInt(args[3]), "read_uncommitted");
            return;
        }
        if (args[1].equals("late")) {
            Late.run(args);
            return;
        }
        transform(args);
    }

    private static Properties consumer(String bootstrap, String isolation) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("key.deserializer", StringDeserializer.class.getName());
        config.put("value.deserializer", StringDeserializer.class.getName());
        config.put("isolation.level", isolation);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("fetch.max.wait.ms", "200");
        config.put("reconnect.backoff.max.ms", "500");
        return config;
    }

    private static void read(String bootstrap, String topic, int partitions, String isolation) {
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(consumer(bootstrap, isolation))) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < partitions; p++) {
                all.add(new TopicPartition(topic, p));
            }
            consumer.assign(all);
            consumer.seekToBeginning(all);
            for (int ended = 0; ended < partitions;) {
                for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(200))) {
                    if (r.value().equals("end")) {
                        ended++;
                    } else {
                        OUT.println(isolation + " " + r.partition() + " " + r.offset() + " " + r.value());
                    }
                }
            }
        }
    }

    private static void transform(String[] args) throws Exception {
        String out = args[3];
        Random random = new Random(Long.parseLong(args[6]));
        int hold = Integer.parseInt(args[7]);
        Properties reading = consumer(args[0], "read_committed");
        reading.put("group.id", args[4]);
        reading.put("max.poll.records", Integer.toString(CHUNK));
        if (args[8].equals("consumer")) {
            reading.put("group.protocol", "consumer");
        } else {
            reading.put("session.timeout.ms", "6000");
            reading.put("heartbeat.interval.ms", "1000");
        }
        Properties writing = new Properties();
        writing.put("bootstrap.servers", args[0]);
        writing.put("transactional.id", args[5]);
        writing.put("transaction.timeout.ms", "20000");
        writing.put("reconnect.backoff.max.ms", "500");
        writing.put("key.serializer", StringSerializer.class.getName());
        writing.put("value.serializer", StringSerializer.class.getName());
        AtomicBoolean stopped = new AtomicBoolean();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (java.io.IOException e) {
                e.printStackTrace();
            }
            stopped.set(true);
        });
        input.setDaemon(true);
        input.start();
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(writing);
             KafkaConsumer<String, String> consumer = new KafkaConsumer<>(reading)) {
            producer.initTransactions();
            consumer.subscribe(List.of(args[2]));
            for (int number = 1; !stopped.get();) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                if (records.isEmpty()) {
                    continue;
                }
                boolean committed = false;
                try {
                    committed = once(producer, consumer, records, out, number == hold, random.nextInt(5) != 0);
                } catch (ProducerFencedException | OutOfOrderSequenceException | AuthorizationException e) {
                    throw e; // for good
                } catch (KafkaException e) {
                    System.err.println(args[5] + " aborts: " + e);
                    producer.abortTransaction();
                }
                if (!committed) {
                    rewind(consumer);
                }
                OUT.println((committed ? "commit " : "abort ") + number);
                number++;
            }
        }
    }

    private static boolean once(KafkaProducer<String, String> producer, KafkaConsumer<String, String> consumer,
                                ConsumerRecords<String, String> records, String out, boolean hold, boolean commit) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        producer.beginTransaction();
        for (ConsumerRecord<String, String> r : records) {
            producer.send(new ProducerRecord<>(out, r.partition(), r.key(), r.value()));
            offsets.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
        }
        if (hold || !commit) {
            producer.flush();
        }
        if (hold) {
            OUT.println("holding");
            Thread.sleep(Long.MAX_VALUE);
        }
        if (!commit) {
            producer.abortTransaction();
            return false;
        }
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        while (true) {
            try {
                producer.commitTransaction();
                return true;
            } catch (TimeoutException e) {
                System.err.println("commit again: " + e);
            }
        }
    }

    /** Goes back to what the group committed. */
    private static void rewind(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition p : consumer.assignment()) {
            OffsetAndMetadata o = committed.get(p);
            if (o == null) {
                consumer.seekToBeginning(List.of(p));
            } else {
                consumer.seek(p, o);
            }
        }
    }
}
