// KafkaAssignments writes testdata/kafka.txt: random groups, and what Apache Kafka's own assignors
// make of them. It is run by hand, as one source file on the class path of the broker:
//
//	java -cp "$JARS/*" KafkaAssignments.java > kafka.txt
//
// JARS is the folder of jars that compat installs (the runtime dependencies of
// compat/java/pom.xml). The classes asked are org.apache.kafka.coordinator.group.assignor
// .UniformAssignor and .RangeAssignor, by way of GroupSpecImpl and
// MemberSubscriptionAndAssignmentImpl of the same jar.

import org.apache.kafka.common.Uuid;
import org.apache.kafka.coordinator.group.api.assignor.ConsumerGroupPartitionAssignor;
import org.apache.kafka.coordinator.group.api.assignor.MemberAssignment;
import org.apache.kafka.coordinator.group.api.assignor.SubscribedTopicDescriber;
import org.apache.kafka.coordinator.group.api.assignor.SubscriptionType;
import org.apache.kafka.coordinator.group.assignor.RangeAssignor;
import org.apache.kafka.coordinator.group.assignor.UniformAssignor;
import org.apache.kafka.coordinator.group.modern.Assignment;
import org.apache.kafka.coordinator.group.modern.GroupSpecImpl;
import org.apache.kafka.coordinator.group.modern.MemberSubscriptionAndAssignmentImpl;

import java.util.*;

public class KafkaAssignments {
    static final int CHAINS = 64;
    static final int STEPS = 4;

    public static void main(String[] args) {
        System.out.println("# Random groups and their assignments by UniformAssignor and RangeAssignor of");
        System.out.println("# kafka-group-coordinator " + UniformAssignor.class.getProtectionDomain().getCodeSource()
            .getLocation().getPath().replaceAll(".*-([0-9.]+)\\.jar", "$1") + ". Written by KafkaAssignments.java.");
        System.out.println("#");
        System.out.println("# case ASSIGNOR SUBSCRIPTIONS ORDER: with sorted, Kafka was given sorted maps, with hashed, hash maps");
        System.out.println("# topic ID PARTITIONS: the topics of the case are numbered from 0");
        System.out.println("# member ID INSTANCE | subscribed topics | present assignment | new assignment: in the order in which Kafka visits them");
        for (int seed = 1; seed <= CHAINS; seed++) new KafkaAssignments(seed).run();
    }

    static class Member {
        String id, instance;
        TreeSet<Integer> topics = new TreeSet<>();
        Map<Integer, TreeSet<Integer>> assigned = new TreeMap<>(); // by number of the topic
    }

    final Random random;
    final boolean range, homogeneous, sorted, big;
    final List<Uuid> ids = new ArrayList<>();
    final List<Integer> counts = new ArrayList<>();
    final List<Member> members = new ArrayList<>();
    int named;

    KafkaAssignments(int seed) {
        random = new Random(seed * 1_000_003L);
        range = seed % 4 == 3;
        homogeneous = seed % 8 < 4;
        sorted = seed % 16 < 8 || seed % 16 == 12;
        big = seed % 16 == 0 || seed % 16 == 12;
        int topics = big ? 16 : 1 + random.nextInt(8);
        boolean equalCounts = random.nextInt(3) == 0;
        for (int i = 0; i < topics; i++) {
            ids.add(new Uuid(random.nextLong(), random.nextLong()));
            counts.add(i > 0 && equalCounts ? counts.get(0) : 1 + random.nextInt(big ? 40 : 16));
        }
        Collections.sort(ids);
        // The hash of topic i becomes i: then a HashSet is walked in the order of ids.
        for (int i = 0; sorted && i < topics; i++) {
            long hi = ids.get(i).getMostSignificantBits(), lo = ids.get(i).getLeastSignificantBits();
            int low = (int) ((hi ^ lo) >> 32) ^ (int) hi ^ i;
            ids.set(i, new Uuid(hi, lo & 0xffffffff00000000L | low & 0xffffffffL));
        }
        int size = big ? 40 : 1 + random.nextInt(10);
        for (int i = 0; i < size; i++) join();
        if (random.nextInt(3) == 0) skew();
    }

    // Gives partitions to members without any balance, as after a change of assignor.
    void skew() {
        for (int t = 0; t < ids.size(); t++) {
            for (int p = 0; p < counts.get(t); p++) {
                int m = random.nextInt(members.size() + 1) * random.nextInt(members.size() + 1) / (members.size() + 1);
                if (random.nextInt(8) > 0) members.get(m).assigned.computeIfAbsent(t, __ -> new TreeSet<>()).add(p);
            }
        }
    }

    void subscribe(Member m) {
        m.topics.clear();
        for (int t = 0; t < ids.size(); t++) {
            if (homogeneous || random.nextInt(3) > 0) m.topics.add(t);
        }
    }

    void join() {
        Member m = new Member();
        m.id = sorted ? String.format("m%02d", random.nextInt(30) * 100 + named++) : "consumer-" + Integer.toHexString(random.nextInt()) + "-" + named++;
        m.instance = random.nextInt(3) == 0 ? "i" + random.nextInt(10) + "." + named : "";
        subscribe(m);
        members.add(m);
    }

    void run() {
        for (int step = 0; step < STEPS; step++) {
            if (step > 0) change();
            ask();
        }
    }

    void change() {
        switch (random.nextInt(6)) {
            case 0: case 1: join(); break;
            case 2: case 3: if (members.size() > 1) members.remove(random.nextInt(members.size())); break;
            case 4:
                int t = random.nextInt(ids.size());
                counts.set(t, counts.get(t) + random.nextInt(6));
                break;
            default:
                if (homogeneous) {
                    int gone = random.nextInt(ids.size());
                    boolean back = !members.get(0).topics.contains(gone);
                    for (Member m : members) {
                        if (back) m.topics.add(gone);
                        else m.topics.remove(gone);
                    }
                } else {
                    subscribe(members.get(random.nextInt(members.size())));
                }
        }
    }

    <K, V> Map<K, V> map() { return sorted ? new TreeMap<>() : new HashMap<>(); }

    <T> Set<T> set() { return sorted ? new TreeSet<>() : new HashSet<>(); }

    void ask() {
        Map<String, MemberSubscriptionAndAssignmentImpl> specs = map();
        Map<Uuid, Map<Integer, String>> inverted = new HashMap<>();
        Map<String, Member> byId = new HashMap<>();
        TreeSet<Integer> all = members.get(0).topics;
        for (Member m : members) {
            if (homogeneous) m.topics = new TreeSet<>(all);
            byId.put(m.id, m);
            Set<Uuid> topics = set();
            for (int t : m.topics) topics.add(ids.get(t));
            Map<Uuid, Set<Integer>> assigned = map();
            m.assigned.forEach((t, partitions) -> {
                Set<Integer> copy = set();
                copy.addAll(partitions);
                assigned.put(ids.get(t), copy);
                for (int p : partitions) inverted.computeIfAbsent(ids.get(t), __ -> new HashMap<>()).put(p, m.id);
            });
            specs.put(m.id, new MemberSubscriptionAndAssignmentImpl(Optional.of("rack" + random.nextInt(3)),
                m.instance.isEmpty() ? Optional.empty() : Optional.of(m.instance), topics, new Assignment(assigned)));
        }
        ConsumerGroupPartitionAssignor assignor = range ? new RangeAssignor() : new UniformAssignor();
        Map<String, MemberAssignment> answer = assignor.assign(
            new GroupSpecImpl(specs, homogeneous ? SubscriptionType.HOMOGENEOUS : SubscriptionType.HETEROGENEOUS, inverted),
            new SubscribedTopicDescriber() {
                public int numPartitions(Uuid id) { return ids.contains(id) ? counts.get(ids.indexOf(id)) : -1; }

                public Set<String> racksForPartition(Uuid id, int partition) { throw new AssertionError("an assignor asks for racks"); }
            }).members();

        System.out.printf("case %s %s %s%n", assignor.name(), homogeneous ? "homogeneous" : "heterogeneous", sorted ? "sorted" : "hashed");
        for (int t = 0; t < ids.size(); t++)
            System.out.printf("topic %016x%016x %d%n", ids.get(t).getMostSignificantBits(), ids.get(t).getLeastSignificantBits(), counts.get(t));
        for (String id : specs.keySet()) {
            Member m = byId.get(id);
            Map<Integer, TreeSet<Integer>> next = new TreeMap<>();
            if (answer.containsKey(id)) answer.get(id).partitions().forEach((topic, partitions) -> next.put(ids.indexOf(topic), new TreeSet<>(partitions)));
            System.out.printf("member %s %s |%s |%s |%s%n", id, m.instance.isEmpty() ? "-" : m.instance, spans(m.topics, " "), show(m.assigned), show(next));
            m.assigned = next;
        }
    }

    static String show(Map<Integer, TreeSet<Integer>> assigned) {
        StringBuilder s = new StringBuilder();
        assigned.forEach((t, partitions) -> s.append(" ").append(t).append(":").append(spans(partitions, "")));
        return s.toString();
    }

    // Numbers as spans: 0-3,7. An empty set is no text at all.
    static String spans(TreeSet<Integer> numbers, String before) {
        StringBuilder s = new StringBuilder();
        Integer from = null;
        for (int n : numbers) {
            if (from == null) from = n;
            if (numbers.contains(n + 1)) continue;
            s.append(s.length() == 0 ? before : ",").append(from);
            if (n > from) s.append("-").append(n);
            from = null;
        }
        return s.toString();
    }
}
