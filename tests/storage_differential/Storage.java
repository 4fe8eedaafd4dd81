import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.*;

/** What the Java client sees of one broker's logs, as JSON lines: Storage HOST:PORT [GROUP OF CASES…]. One file, run from source. */
public class Storage {
    static final Duration DEADLINE = Duration.ofSeconds(60);
    static final Duration POLL = Duration.ofMillis(50);
    static final long BASE_MS = 1_600_000_000_000L;
    static final long LATE_MS = 4_000_000_000_000L;
    static final long GROUP_MS = 10_000;
    static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    static final List<String> KEYS = List.of(
            "cleanup.policy", "retention.ms", "retention.bytes", "segment.ms", "min.cleanable.dirty.ratio", "delete.retention.ms",
            "message.timestamp.type", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "max.message.bytes");
    static final long[] SEEKS = {0, 1, 17, 36, 37, 38, 99, 100, 1000};
    static final long[] TIMES = {
        0, BASE_MS, BASE_MS + 1, BASE_MS + 70_000, BASE_MS + 70_015, BASE_MS + 190_040, BASE_MS + 190_041, LATE_MS};
    static final ObjectMapper JSON = new ObjectMapper();
    static final Map<String, KafkaProducer<String, String>> producers = new TreeMap<>();
    static String bootstrap;
    static String suite;
    static Admin admin;

    interface Body {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        List<String> asked = Arrays.asList(arguments).subList(1, arguments.length);
        if (asked.isEmpty() || asked.contains("retained")) {
            on("prefix", Storage::prefix);
            on("by-time", Storage::byTime);
            on("by-size", Storage::bySize);
            on("stamped", Storage::stamped);
            on("refused", Storage::refused);
        }
        if (asked.isEmpty() || asked.contains("compacted")) {
            on("compacted", () -> compacted("compact"));
            on("compacted-and-deleted", () -> compacted("compact,delete"));
        }
        System.exit(0);
    }

    static void on(String name, Body body) throws Exception {
        suite = name;
        body.run();
    }

    static void say(String step, Object... fields) throws Exception {
        Map<String, Object> line = new TreeMap<>(Map.of("case", suite, "step", step));
        for (int at = 0; at < fields.length; at += 2) {
            line.put((String) fields[at], fields[at + 1]);
        }
        System.out.println(JSON.writeValueAsString(line));
    }

    // ---- The script.

    /** Five records: one batch. The third is older than the second. */
    static List<ProducerRecord<String, String>> group(String topic, int number, long base, boolean keyless) {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        for (int turn = 0; turn < 5; turn++) {
            int i = number * 5 + turn;
            String key = keyless && i % 11 == 0 ? null : key(i);
            String value = i % 5 == 3 ? null : "value-" + i + "-" + "x".repeat(i % 3 * 100);
            List<Header> headers = i % 2 == 0 ? List.of() : List.of(
                    new RecordHeader("one", ("header-" + i).getBytes(StandardCharsets.UTF_8)),
                    new RecordHeader("one", null), new RecordHeader("empty", new byte[0]));
            long timestamp = base + number * GROUP_MS + turn * 10 - (turn == 2 ? 500 : 0);
            records.add(new ProducerRecord<>(topic, 0, timestamp, key, value, headers));
        }
        return records;
    }

    /** Keys that come once leave records between holes. */
    static String key(int i) {
        return i % 10 == 7 ? "only-" + i : "key-" + i % 7;
    }

    static void fill(String topic, int groups, long base, boolean keyless) throws Exception {
        for (int number = 0; number < groups; number++) {
            produce(group(topic, number, base, keyless), CODECS.get(number % 5));
        }
    }

    static void prefix() throws Exception {
        String topic = "java-prefix";
        create(topic, Map.of("retention.ms", "-1", "segment.ms", "5000"));
        fill(topic, 20, BASE_MS, true);
        configs(topic);
        observe(topic, TIMES);
        deleteRecords(topic, 37);
        observe(topic, TIMES);
        commits(topic, 12);
        for (long refused : new long[] {20, 101, -2}) {
            deleteRecords(topic, refused);
        }
        suite = "emptied";
        deleteRecords(topic, -1);
        observe(topic, TIMES);
        suite = "refilled";
        produce(group(topic, 20, BASE_MS, true), "none");
        observe(topic, TIMES);
    }

    static void byTime() throws Exception {
        String topic = "java-by-time";
        create(topic, Map.of("retention.ms", "-1", "segment.ms", "5000", "message.timestamp.after.max.ms", "" + Long.MAX_VALUE));
        fill(topic, 8, BASE_MS, true);
        fill(topic, 2, LATE_MS, true);
        alter(topic, "retention.ms", "86400000");
        awaitStart(topic, 40);
        observe(topic, 0, BASE_MS, BASE_MS + 70_015, LATE_MS, LATE_MS + 10_000, LATE_MS + 20_000);
    }

    static void bySize() throws Exception {
        String topic = "java-by-size";
        create(topic, Map.of("retention.ms", "-1", "segment.ms", "5000"));
        fill(topic, 10, BASE_MS, true);
        alter(topic, "retention.bytes", "1");
        awaitStart(topic, 45);
        observe(topic, TIMES);
    }

    static void stamped() throws Exception {
        String topic = "java-stamped";
        create(topic, Map.of("retention.ms", "-1", "message.timestamp.type", "LogAppendTime"));
        for (int number = 0; number < 5; number++) {
            produce(group(topic, number, BASE_MS, true), CODECS.get(number));
            // No two batches get the same stamp, however fast the broker is: the newest one is the last.
            for (long last = System.currentTimeMillis(); System.currentTimeMillis() == last; ) {
                Thread.sleep(1);
            }
        }
        configs(topic);
        observe(topic, 0, BASE_MS, LATE_MS);
        deleteRecords(topic, 7);
        observe(topic, 0, BASE_MS, LATE_MS);
    }

    static void refused() throws Exception {
        String topic = "java-refused";
        create(topic, Map.of("message.timestamp.before.max.ms", "3600000", "message.timestamp.after.max.ms", "3600000",
                "max.message.bytes", "2000"));
        produce(group(topic, 0, BASE_MS, true), "none");
        produce(group(topic, 0, LATE_MS, true), "none");
        produce(List.of(new ProducerRecord<>(topic, 0, 0L, "key", "x".repeat(3_000))), "none");
        create("java-keyed", Map.of("cleanup.policy", "compact"));
        for (String codec : CODECS) {
            produce(group("java-keyed", 0, BASE_MS, true), codec);
        }
        observe("java-keyed");
        observe(topic);
    }

    static void compacted(String policy) throws Exception {
        String topic = "java-" + policy.replace(',', '-');
        create(topic, Map.of("cleanup.policy", policy, "retention.ms", "-1", "segment.ms", "5000", "min.cleanable.dirty.ratio", "0"));
        fill(topic, 20, BASE_MS, false);
        // The last group is the active segment, which is not compacted and does not take part.
        Map<String, Long> newest = new TreeMap<>();
        for (int i = 0; i < 95; i++) {
            newest.put(key(i), (long) i);
        }
        TreeSet<Long> left = new TreeSet<>(newest.values());
        for (long offset = 95; offset < 100; offset++) {
            left.add(offset);
        }
        awaitRecords(topic, List.copyOf(left));
        configs(topic);
        observe(topic, TIMES);
        commits(topic, 12);
        deleteRecords(topic, 91);
        observe(topic, TIMES);
    }

    // ---- What it does and sees.

    static void create(String topic, Map<String, String> settings) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, Optional.of(1), Optional.empty()).configs(settings))).all().get();
    }

    static void alter(String topic, String key, String value) throws Exception {
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.TOPIC, topic), List.of(change))).all().get();
    }

    static void deleteRecords(String topic, long offset) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        Future<DeletedRecords> asked =
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(offset))).lowWatermarks().get(partition);
        try {
            say("delete-records", "before", offset, "low-watermark", asked.get().lowWatermark());
        } catch (ExecutionException error) {
            say("delete-records", "before", offset, "error", error.getCause().getClass().getSimpleName());
        }
    }

    /** One batch; says every answer. */
    static void produce(List<ProducerRecord<String, String>> records, String codec) throws Exception {
        KafkaProducer<String, String> producer = producers.computeIfAbsent(codec, name -> new KafkaProducer<>(
                Map.of("bootstrap.servers", bootstrap, "compression.type", name, "linger.ms", "2000"),
                new StringSerializer(), new StringSerializer()));
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (ProducerRecord<String, String> record : records) {
            sent.add(producer.send(record));
        }
        producer.flush();
        List<Object> answers = new ArrayList<>();
        for (Future<RecordMetadata> each : sent) {
            try {
                answers.add(new TreeMap<>(Map.of("offset", each.get().offset(), "timestamp", each.get().timestamp())));
            } catch (ExecutionException error) {
                answers.add(Map.of("error", error.getCause().getClass().getSimpleName()));
            }
        }
        say("produced", "codec", codec, "answers", answers);
    }

    static void awaitStart(String topic, long offset) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("earliest", "observer")) {
            long start;
            while ((start = consumer.beginningOffsets(List.of(partition)).get(partition)) != offset && System.nanoTime() < deadline) {
                Thread.sleep(100);
            }
            say("start", "offset", start);
        }
    }

    static void awaitRecords(String topic, List<Long> offsets) throws Exception {
        long deadline = System.nanoTime() + DEADLINE.toNanos();
        List<Long> found = List.of();
        while (!found.equals(offsets) && System.nanoTime() < deadline) {
            found = read(topic).stream().map(ConsumerRecord::offset).toList();
        }
        say("left", "offsets", found);
    }

    static void observe(String topic, long... times) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("earliest", "observer")) {
            say("bounds", "low", consumer.beginningOffsets(List.of(partition)).get(partition),
                    "high", consumer.endOffsets(List.of(partition)).get(partition));
            // Kafka finds nothing by an old time until it has removed the segments of a deleted prefix.
            boolean empty = consumer.beginningOffsets(List.of(partition)).equals(consumer.endOffsets(List.of(partition)));
            long deadline = System.nanoTime() + DEADLINE.toNanos();
            while (!empty && System.nanoTime() < deadline
                    && consumer.offsetsForTimes(Map.of(partition, 0L)).get(partition) == null) {
                Thread.onSpinWait();
            }
            for (long asked : times) {
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, asked)).get(partition);
                say("offset-for-time", "asked", asked, "offset", found == null ? null : found.offset(),
                        "timestamp", found == null ? null : found.timestamp(),
                        "leader-epoch", found == null ? null : found.leaderEpoch().orElse(null));
            }
        }
        for (ConsumerRecord<byte[], byte[]> record : read(topic)) {
            List<Object> headers = new ArrayList<>();
            record.headers().forEach(header -> headers.add(Arrays.asList(header.key(), text(header.value()))));
            say("record", "offset", record.offset(), "key", text(record.key()), "value", text(record.value()), "headers", headers,
                    "timestamp", record.timestamp(), "type", record.timestampType().name,
                    "leader-epoch", record.leaderEpoch().orElse(null), "key-size", record.serializedKeySize(),
                    "value-size", record.serializedValueSize());
        }
        Map<String, OffsetSpec> specs = new TreeMap<>(Map.of(
                "earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "max", OffsetSpec.maxTimestamp()));
        for (Map.Entry<String, OffsetSpec> spec : specs.entrySet()) {
            ListOffsetsResult.ListOffsetsResultInfo found =
                    admin.listOffsets(Map.of(partition, spec.getValue())).partitionResult(partition).get();
            say("list-offsets." + spec.getKey(), "offset", found.offset(), "timestamp", found.timestamp(),
                    "leader-epoch", found.leaderEpoch().orElse(null));
        }
        for (String reset : List.of("earliest", "latest", "none")) {
            seeks(partition, reset);
        }
    }

    /** Each seek ends with a record, at the end of the log or with an error. */
    static void seeks(TopicPartition partition, String reset) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(reset, "observer")) {
            consumer.assign(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            for (long offset : SEEKS) {
                consumer.seek(partition, offset);
                Long found = null;
                String error = null;
                long deadline = System.nanoTime() + DEADLINE.toNanos();
                try {
                    do {
                        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                            found = found == null ? (Long) record.offset() : found;
                        }
                    } while (found == null && consumer.position(partition) != end && System.nanoTime() < deadline);
                } catch (OffsetOutOfRangeException out) {
                    error = out.getClass().getSimpleName() + " " + out.offsetOutOfRangePartitions();
                }
                say("seek", "reset", reset, "offset", offset, "found", found, "error", error,
                        "position", consumer.position(partition));
            }
        }
    }

    /** A commit inside what is deleted or compacted away is kept; the group goes on where records are. */
    static void commits(String topic, long offset) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("earliest", topic)) {
            consumer.assign(List.of(partition));
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(offset, Optional.of(0), "kept")));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("earliest", topic)) {
            OffsetAndMetadata kept = consumer.committed(Set.of(partition)).get(partition);
            say("committed", "offset", kept.offset(), "metadata", kept.metadata(), "leader-epoch", kept.leaderEpoch().orElse(null));
            consumer.assign(List.of(partition));
            Iterator<ConsumerRecord<byte[], byte[]>> records;
            do {
                records = consumer.poll(DEADLINE).iterator();
            } while (!records.hasNext());
            say("goes-on", "offset", records.next().offset());
        }
    }

    static void configs(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config found = admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true)).all().get().get(resource);
        for (String key : KEYS) {
            ConfigEntry entry = found.get(key);
            List<Object> synonyms = new ArrayList<>();
            entry.synonyms().forEach(each -> synonyms.add(List.of(each.name(), each.value(), each.source().name())));
            say("config", "key", key, "value", entry.value(), "source", entry.source().name(), "type", entry.type().name(),
                    "read-only", entry.isReadOnly(), "synonyms", synonyms);
        }
    }

    /** All records up to the end of the log, across whatever holes there are. */
    static List<ConsumerRecord<byte[], byte[]>> read(String topic) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("earliest", "observer")) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            long deadline = System.nanoTime() + DEADLINE.toNanos();
            while (consumer.position(partition) < end && System.nanoTime() < deadline) {
                consumer.poll(POLL).forEach(found::add);
            }
        }
        return found;
    }

    static KafkaConsumer<byte[], byte[]> consumer(String reset, String group) {
        return new KafkaConsumer<>(
                Map.of("bootstrap.servers", bootstrap, "group.id", group, "enable.auto.commit", "false", "auto.offset.reset", reset,
                        "fetch.max.wait.ms", "50"),
                new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }
}
