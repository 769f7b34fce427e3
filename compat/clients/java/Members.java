import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.FileDescriptor;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Members of groups by Kafka's own consumer: commands come in as JSON lines, what happens to the members goes out as
 * JSON lines. compat's group_member.go has the other end and says what each means. Each member is a consumer with a
 * thread of its own, which does all that touches it.
 *
 * <p>Usage: Members BOOTSTRAP members
 */
public final class Members {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PrintStream OUT = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);

    private Members() {
    }

    public static void main(String[] args) throws Exception {
        System.setOut(System.err); // what a library prints is no event
        Map<String, Member> members = new HashMap<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode c = JSON.readTree(line);
            String name = c.get("member").asText();
            if (c.get("op").asText().equals("join")) {
                Member m = new Member(args[0], name, c);
                members.put(name, m);
                m.start();
            } else {
                members.get(name).todo.add(c);
            }
        }
        JsonNode close = JSON.createObjectNode().put("op", "close");
        for (Member m : members.values()) {
            m.todo.add(close);
        }
        for (Member m : members.values()) {
            m.join();
        }
    }

    private static final class Member extends Thread implements ConsumerRebalanceListener {
        final ConcurrentLinkedQueue<JsonNode> todo = new ConcurrentLinkedQueue<>();
        private final Map<Integer, Long> at = new TreeMap<>(); // next offsets
        private final String topic;
        private final boolean regex; // subscribe by a regular expression that the broker knows
        private final Properties config = new Properties();
        private KafkaConsumer<String, String> consumer;

        Member(String bootstrap, String name, JsonNode c) {
            super(name);
            topic = c.get("topic").asText();
            config.put("bootstrap.servers", bootstrap);
            config.put("client.id", name);
            config.put("group.id", c.get("group").asText());
            config.put("group.protocol", c.get("protocol").asText());
            config.put("key.deserializer", StringDeserializer.class.getName());
            config.put("value.deserializer", StringDeserializer.class.getName());
            config.put("auto.offset.reset", "earliest");
            config.put("enable.auto.commit", "false");
            config.put("fetch.max.wait.ms", "200");
            config.put("reconnect.backoff.max.ms", "500");
            regex = c.path("regex").asBoolean();
            if (c.has("instance")) {
                config.put("group.instance.id", c.get("instance").asText());
            }
            if (c.get("protocol").asText().equals("consumer") && c.has("assignors")) {
                config.put("group.remote.assignor", c.get("assignors").get(0).asText());
            }
            if (c.get("protocol").asText().equals("classic")) {
                config.put("heartbeat.interval.ms", "1000");
                if (c.path("session").asInt() > 0) {
                    config.put("session.timeout.ms", c.get("session").asText());
                }
                List<String> assignors = new ArrayList<>();
                for (JsonNode a : c.path("assignors")) {
                    assignors.add(assignor(a.asText()));
                }
                if (!assignors.isEmpty()) {
                    config.put("partition.assignment.strategy", assignors);
                }
            }
        }

        private static String assignor(String name) {
            switch (name) {
                case "range":
                    return "org.apache.kafka.clients.consumer.RangeAssignor";
                case "roundrobin":
                    return "org.apache.kafka.clients.consumer.RoundRobinAssignor";
                case "sticky":
                    return "org.apache.kafka.clients.consumer.StickyAssignor";
                case "cooperative-sticky":
                    return "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
                default:
                    throw new IllegalArgumentException(name);
            }
        }

        private void say(String event, Object... facts) {
            Map<String, Object> line = new HashMap<>();
            line.put("at", ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()));
            line.put("member", getName());
            line.put("event", event);
            for (int i = 0; i < facts.length; i += 2) {
                line.put((String) facts[i], facts[i + 1]);
            }
            try {
                OUT.println(JSON.writeValueAsString(line));
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        private static List<Integer> numbers(Collection<TopicPartition> partitions) {
            List<Integer> out = new ArrayList<>();
            for (TopicPartition p : partitions) {
                out.add(p.partition());
            }
            return out;
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            if (!partitions.isEmpty()) {
                say("assigned", "partitions", numbers(partitions));
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit(partitions);
            gone("revoked", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            gone("lost", partitions);
        }

        private void gone(String event, Collection<TopicPartition> partitions) {
            at.keySet().removeAll(numbers(partitions));
            if (!partitions.isEmpty()) {
                say(event, "partitions", numbers(partitions));
            }
        }

        private Map<TopicPartition, OffsetAndMetadata> positions(Collection<TopicPartition> partitions) {
            Map<TopicPartition, OffsetAndMetadata> out = new HashMap<>();
            for (TopicPartition p : partitions) {
                if (at.containsKey(p.partition())) {
                    out.put(p, new OffsetAndMetadata(at.get(p.partition())));
                }
            }
            return out;
        }

        private void committed(Map<TopicPartition, OffsetAndMetadata> offsets, Exception e) {
            Map<Integer, Long> told = new TreeMap<>();
            offsets.forEach((p, o) -> told.put(p.partition(), o.offset()));
            if (e == null) {
                say("committed", "offsets", told);
            } else {
                say("not-committed", "offsets", told, "text", e.toString());
            }
        }

        private void commit(Collection<TopicPartition> partitions) {
            Map<TopicPartition, OffsetAndMetadata> offsets = positions(partitions);
            if (offsets.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(offsets);
                committed(offsets, null);
            } catch (RuntimeException e) {
                committed(offsets, e);
            }
        }

        private void command(JsonNode c) {
            Collection<TopicPartition> own = consumer.assignment();
            switch (c.get("op").asText()) {
                case "pause":
                    consumer.pause(own);
                    say("paused", "partitions", numbers(own));
                    break;
                case "resume":
                    say("resumed", "partitions", numbers(own));
                    consumer.resume(own);
                    break;
                case "seek":
                    int partition = c.get("partition").asInt();
                    long offset = c.get("offset").asLong();
                    consumer.seek(new TopicPartition(topic, partition), offset);
                    at.put(partition, offset);
                    say("sought", "partition", partition, "offset", offset);
                    break;
                case "commit":
                    commit(own);
                    break;
                default:
                    consumer.commitAsync(positions(own), this::committed);
            }
        }

        @Override
        public void run() {
            try (KafkaConsumer<String, String> opened = new KafkaConsumer<>(config)) {
                consumer = opened;
                if (regex) {
                    consumer.subscribe(new SubscriptionPattern("^" + topic.replace(".", "\\.") + "$"), this);
                } else {
                    consumer.subscribe(List.of(topic), this);
                }
                while (true) {
                    JsonNode c = todo.poll();
                    if (c != null && c.get("op").asText().equals("close")) {
                        break;
                    }
                    if (c != null) {
                        command(c);
                        continue;
                    }
                    for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(50))) {
                        at.put(r.partition(), r.offset() + 1);
                        say("record", "partition", r.partition(), "offset", r.offset(), "key", r.key());
                    }
                }
            } catch (Exception e) {
                say("error", "text", e.toString());
                e.printStackTrace();
            }
            say("closed");
        }
    }
}
