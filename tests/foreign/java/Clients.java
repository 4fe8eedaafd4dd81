import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/** What the console tools cannot say: the Java client's own producer, consumer and Admin, byte for byte. One file, run from source. */
public class Clients {
    static final long DEADLINE_S = 45;
    static final long HOUR_MS = 3_600_000;
    static String bootstrap;
    static boolean failed;
    static short replicationFactor = Short.parseShort(System.getenv().getOrDefault("KLAMM_REPLICATION_FACTOR", "1"));
    static Admin admin;

    interface Body {
        void on(String topic) throws Exception;
    }

    record Sent(int partition, byte[] key, byte[] value, List<Header> headers, long timestamp) {}

    public static void main(String[] arguments) {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        onTopic("Admin: create, describe, delete a topic", 5, Clients::createsAndLists);
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            onTopic("KafkaProducer and KafkaConsumer byte for byte, " + codec, 3, topic -> publishesAndReads(topic, codec));
        }
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            onTopic("group of two with the " + assignor, 4, topic -> groupOfTwo(topic, assignor));
        }
        onTopic("a static member comes back without a rebalance", 3, Clients::staticMember);
        onTopic("seek to an offset and to a timestamp", 1, Clients::seeks);
        System.exit(failed ? 1 : 0);
    }

    /** Runs a case on a topic of its own and reports it in the form that the runner reads. */
    static void onTopic(String name, int partitions, Body body) {
        long started = System.nanoTime();
        String topic = "foreign-" + UUID.randomUUID();
        String why = null;
        try {
            admin.createTopics(List.of(new NewTopic(topic, partitions, replicationFactor))).all().get();
            body.on(topic);
            deleteTopic(topic);
        } catch (Throwable error) {
            error.printStackTrace();
            why = error.toString().replaceAll("\\s+", " ");
            failed = true;
        }
        String line = String.format(Locale.ROOT, "%s\t%s\t%.2f", why == null ? "ok" : "FAILED", name, (System.nanoTime() - started) / 1e9);
        System.out.println(why == null ? line : line + "\t" + why);
    }

    static void deleteTopic(String topic) throws Exception {
        try {
            admin.deleteTopics(List.of(topic)).all().get();
        } catch (ExecutionException error) {
            if (!(error.getCause() instanceof UnknownTopicOrPartitionException)) throw error;
        }
    }

    static void expect(boolean truth, String message) {
        if (!truth) throw new AssertionError(message);
    }

    static void same(String what, Object found, Object wanted) {
        expect(Objects.equals(found, wanted), what + ": found " + found + ", wanted " + wanted);
    }

    /** Polls the consumers in turn, which is what lets them rebalance, until the condition holds. */
    static void until(String what, List<Member> members, BooleanSupplier condition) {
        long deadline = System.nanoTime() + DEADLINE_S * 1_000_000_000;
        while (!condition.getAsBoolean()) {
            expect(System.nanoTime() < deadline, "not within " + DEADLINE_S + " s: " + what + "; " + members);
            members.forEach(Member::poll);
        }
    }

    /** A consumer and all it has read. */
    static class Member implements AutoCloseable {
        final KafkaConsumer<byte[], byte[]> consumer;
        final List<ConsumerRecord<byte[], byte[]>> read = new ArrayList<>();

        Member(Map<String, Object> settings) {
            Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
                "enable.auto.commit", false, "heartbeat.interval.ms", 300, "session.timeout.ms", 10_000));
            all.putAll(settings);
            consumer = new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        }

        void poll() {
            consumer.poll(Duration.ofMillis(50)).forEach(read::add);
        }

        Set<Integer> partitions() {
            Set<Integer> found = new TreeSet<>();
            consumer.assignment().forEach(each -> found.add(each.partition()));
            return found;
        }

        Set<String> values(int from) {
            Set<String> found = new TreeSet<>();
            read.subList(from, read.size()).forEach(each -> found.add(each.partition() + " " + new String(each.value(), StandardCharsets.UTF_8)));
            return found;
        }

        @Override
        public String toString() {
            return read.size() + " records, partitions " + partitions();
        }

        @Override
        public void close() {
            consumer.close(CloseOptions.timeout(Duration.ofSeconds(DEADLINE_S)));
        }
    }

    static void publish(String topic, List<Sent> records, String codec) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 5);
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (Sent each : records) {
                answers.add(producer.send(new ProducerRecord<>(topic, each.partition, each.timestamp, each.key, each.value, each.headers)));
            }
            Map<Integer, Long> next = new HashMap<>();
            for (int index = 0; index < records.size(); index++) {
                int partition = records.get(index).partition;
                long wanted = next.merge(partition, 1L, Long::sum) - 1;
                long offset = answers.get(index).get().offset();
                expect(offset >= wanted, "record " + index + " was acknowledged at " + offset + " of partition " + partition);
            }
        }
    }

    static Set<String> publishEverywhere(String topic, int partitions, String value) throws Exception {
        List<Sent> records = new ArrayList<>();
        Set<String> seen = new TreeSet<>();
        for (int partition = 0; partition < partitions; partition++) {
            records.add(new Sent(partition, null, value.getBytes(StandardCharsets.UTF_8), List.of(), System.currentTimeMillis()));
            seen.add(partition + " " + value);
        }
        publish(topic, records, "none");
        return seen;
    }

    /** Missing and empty keys and values, every byte, headers of all kinds; 0 to 100,000 bytes; a second apart from an hour ago. */
    static List<Sent> sample(int count, int partitions) {
        byte[] everyByte = new byte[256];
        for (int each = 0; each < 256; each++) everyByte[each] = (byte) each;
        byte[] noise = new byte[100_000];
        new Random(0).nextBytes(noise);
        byte[][] keys = {null, {}, "key".getBytes(), everyByte, "ключ".getBytes(StandardCharsets.UTF_8)};
        byte[][] values = {null, {}, everyByte, "compressible ".repeat(500).getBytes(), noise, {1}};
        List<List<Header>> headers = List.of(List.of(), List.of(header("plain", "value".getBytes())),
            List.of(header("twice", everyByte), header("twice", new byte[0])), List.of(header("none", null), header("имя", everyByte)));
        long first = System.currentTimeMillis() - HOUR_MS;
        List<Sent> records = new ArrayList<>();
        for (int index = 0; index < count; index++) {
            records.add(new Sent(index % partitions, keys[index % keys.length], values[index % values.length],
                headers.get(index % headers.size()), first + index * 1000L));
        }
        return records;
    }

    static Header header(String key, byte[] value) {
        return new RecordHeader(key, value);
    }

    static void createsAndLists(String topic) throws Exception {
        same("partitions", admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), 5);
        expect(admin.listTopics().names().get().contains(topic), "the topic is not listed");
        admin.deleteTopics(List.of(topic)).all().get();
        long deadline = System.nanoTime() + DEADLINE_S * 1_000_000_000;
        while (admin.listTopics().names().get().contains(topic)) {
            expect(System.nanoTime() < deadline, "the deleted topic is listed after " + DEADLINE_S + " s");
            Thread.sleep(50);
        }
    }

    static void publishesAndReads(String topic, String codec) throws Exception {
        List<Sent> records = sample(120, 3);
        publish(topic, records, codec);
        try (Member member = new Member(Map.of())) {
            List<TopicPartition> partitions = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1), new TopicPartition(topic, 2));
            member.consumer.assign(partitions);
            member.consumer.seekToBeginning(partitions);
            until("120 records", List.of(member), () -> member.read.size() >= 120);
            same("end offsets", new TreeSet<>(member.consumer.endOffsets(partitions).values()), Set.of(40L));
            for (int partition = 0; partition < 3; partition++) {
                int which = partition;
                var found = member.read.stream().filter(each -> each.partition() == which).toList();
                var wanted = records.stream().filter(each -> each.partition == which).toList();
                same("records of partition " + which, found.size(), wanted.size());
                for (int index = 0; index < wanted.size(); index++) sameRecord(found.get(index), wanted.get(index), index);
            }
        }
    }

    static void sameRecord(ConsumerRecord<byte[], byte[]> found, Sent wanted, long offset) {
        String where = " of record " + offset + " of partition " + wanted.partition;
        same("offset" + where, found.offset(), offset);
        same("timestamp" + where, found.timestamp(), wanted.timestamp);
        expect(Arrays.equals(found.key(), wanted.key), "key" + where + " differs");
        expect(Arrays.equals(found.value(), wanted.value), "value" + where + " differs");
        same("headers" + where, Arrays.asList(found.headers().toArray()), wanted.headers);
    }

    static Map<String, Object> inGroup(String group, String assignor) {
        return Map.of("group.id", group, "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
    }

    static void groupOfTwo(String topic, String assignor) throws Exception {
        String group = "group-" + UUID.randomUUID();
        Set<Integer> all = Set.of(0, 1, 2, 3);
        try (Member first = new Member(inGroup(group, assignor)); Member second = new Member(inGroup(group, assignor))) {
            first.consumer.subscribe(List.of(topic));
            until("all partitions for the first", List.of(first), () -> first.partitions().equals(all));
            second.consumer.subscribe(List.of(topic));
            List<Member> both = List.of(first, second);
            until("half for each", both, () -> first.partitions().size() == 2 && second.partitions().size() == 2);
            Set<Integer> together = new TreeSet<>(first.partitions());
            together.addAll(second.partitions());
            same("both shares", together, all);

            Set<String> shared = publishEverywhere(topic, 4, "shared");
            until("two records for each", both, () -> first.read.size() == 2 && second.read.size() == 2);
            Set<String> found = first.values(0);
            found.addAll(second.values(0));
            same("records of both", found, shared);
            both.forEach(each -> each.consumer.commitSync());

            second.close();
            until("all partitions again", List.of(first), () -> first.partitions().equals(all));
            Set<String> alone = publishEverywhere(topic, 4, "alone");
            until("the last records", List.of(first), () -> first.read.size() >= 6);
            same("records after the second left", first.values(2), alone);
            first.consumer.commitSync();
        }
        Set<String> away = publishEverywhere(topic, 4, "while away");
        try (Member again = new Member(inGroup(group, assignor))) {
            again.consumer.subscribe(List.of(topic));
            until("the records published meanwhile", List.of(again), () -> again.read.size() >= 4);
            same("records after coming back", again.values(0), away);
        }
        admin.deleteConsumerGroups(List.of(group)).all().get();
    }

    /** KIP-345: within the session timeout the same instance gets its partitions back in the same generation. */
    static void staticMember(String topic) throws Exception {
        Map<String, Object> settings = Map.of("group.id", "group-" + UUID.randomUUID(), "group.instance.id", "instance-1");
        int generation;
        try (Member first = new Member(settings)) {
            first.consumer.subscribe(List.of(topic));
            until("all partitions", List.of(first), () -> first.partitions().size() == 3);
            generation = first.consumer.groupMetadata().generationId();
        }
        try (Member again = new Member(settings)) {
            again.consumer.subscribe(List.of(topic));
            until("all partitions again", List.of(again), () -> again.partitions().size() == 3);
            same("generation", again.consumer.groupMetadata().generationId(), generation);
        }
    }

    static void seeks(String topic) throws Exception {
        List<Sent> records = sample(30, 1);
        publish(topic, records, "zstd");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (Member member = new Member(Map.of())) {
            member.consumer.assign(List.of(partition));
            for (int offset : List.of(17, 0, 29)) {
                member.read.clear();
                member.consumer.seek(partition, offset);
                until("a record", List.of(member), () -> !member.read.isEmpty());
                sameRecord(member.read.get(0), records.get(offset), offset);
            }
            long asked = records.get(12).timestamp;
            same("offset for record 12's time", offsetFor(member, partition, asked), 12L);
            same("offset a little later", offsetFor(member, partition, asked + 1), 13L);
            same("offset before all", offsetFor(member, partition, asked - HOUR_MS), 0L);
            same("offset after all", offsetFor(member, partition, System.currentTimeMillis()), null);
        }
    }

    static Long offsetFor(Member member, TopicPartition partition, long timestamp) {
        OffsetAndTimestamp found = member.consumer.offsetsForTimes(Map.of(partition, timestamp)).get(partition);
        return found == null ? null : found.offset();
    }
}
