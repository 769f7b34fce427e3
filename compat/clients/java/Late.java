import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Properties;
import java.util.Random;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Writes transactions over a network that delays requests, by Kafka's own client, of the version on the class path.
 * compat's txn_delayed.go says what the arguments are and what is printed.
 *
 * <p>Usage: Transform BOOTSTRAP late TOPIC PARTITIONS NAME PRODUCERS ROUNDS SEED
 */
final class Late implements Runnable {
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    private final String[] args;
    private final int number;

    private Late(String[] args, int number) {
        this.args = args;
        this.number = number;
    }

    static void run(String[] args) throws InterruptedException {
        List<Thread> all = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(args[5]); i++) {
            Thread thread = new Thread(new Late(args, i));
            thread.start();
            all.add(thread);
        }
        for (Thread thread : all) {
            thread.join();
        }
    }

    @Override
    public void run() {
        String id = args[4] + "-" + number;
        Random random = new Random(Long.parseLong(args[7]) + number);
        Properties config = new Properties();
        config.put("bootstrap.servers", args[0]);
        config.put("transactional.id", id);
        config.put("retry.backoff.ms", "2");
        config.put("retry.backoff.max.ms", "20");
        config.put("reconnect.backoff.ms", "2");
        config.put("reconnect.backoff.max.ms", "20");
        config.put("key.serializer", StringSerializer.class.getName());
        config.put("value.serializer", StringSerializer.class.getName());
        int round = 0;
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(config)) {
            producer.initTransactions();
            for (; round < Integer.parseInt(args[6]); round++) {
                once(producer, id, round, random);
            }
        } catch (Exception e) {
            OUT.println("failed " + id + " " + round + " " + e);
        }
    }

    private void once(KafkaProducer<String, String> producer, String id, int round, Random random) {
        List<Integer> partitions = new ArrayList<>();
        for (int p = 0; p < Integer.parseInt(args[3]); p++) {
            partitions.add(p);
        }
        Collections.shuffle(partitions, random);
        producer.beginTransaction();
        for (int p : partitions) {
            producer.send(new ProducerRecord<>(args[2], p, null, id + " " + round));
            producer.flush();
        }
        boolean commit = random.nextBoolean();
        while (true) {
            try {
                if (commit) {
                    producer.commitTransaction();
                } else {
                    producer.abortTransaction();
                }
                break;
            } catch (TimeoutException e) {
                System.err.println("again: " + e);
            }
        }
        OUT.println((commit ? "commit " : "abort ") + id + " " + round);
    }
}
