import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * The Java client under load: says, a line a thing, what it did and saw (../README.md has the lines). One file, run from source.
 * Load produce BOOTSTRAP TOPIC PARTITIONS FIRST_ID idempotent, or Load consume BOOTSTRAP TOPIC GROUP. It ends in order when its
 * standard input ends.
 */
public class Load {
    static final long PAUSE_MS = 50;
    static final int UNANSWERED_MAX = 200;
    static final long COMMIT_EVERY_MS = 200;
    static final Duration POLL = Duration.ofMillis(100);
    static final Duration POSITION = Duration.ofSeconds(10);
    static final Duration CLOSE = Duration.ofSeconds(60);
    static final String PADDING = " " + "x".repeat(150);
    /** Quick to notice and to try again: what is measured is the broker. */
    static final Map<String, Object> SETTINGS = Map.of(
        "request.timeout.ms", 3000, "retry.backoff.ms", 50, "retry.backoff.max.ms", 200, "reconnect.backoff.ms", 50,
        "reconnect.backoff.max.ms", 200, "metadata.max.age.ms", 1000, "socket.connection.setup.timeout.ms", 1000,
        "socket.connection.setup.timeout.max.ms", 2000);
    static volatile boolean over;

    public static void main(String[] arguments) throws Exception {
        Thread end = new Thread(Load::waitForEnd);
        end.setDaemon(true);
        end.start();
        if (arguments[0].equals("produce")) {
            produce(arguments[1], arguments[2], Integer.parseInt(arguments[3]), Long.parseLong(arguments[4]));
        } else {
            consume(arguments[1], arguments[2], arguments[3]);
        }
        System.exit(0);
    }

    static void waitForEnd() {
        try {
            while (System.in.read() >= 0) { }
        } catch (java.io.IOException ended) {
            // It has ended in its own way.
        }
        over = true;
    }

    static synchronized void say(String what, Object... words) {
        StringBuilder line = new StringBuilder(what);
        for (Object word : words) line.append(' ').append(word);
        System.out.println(line.toString().replace('\n', ' '));
        System.out.flush();
    }

    static Map<String, Object> settings(String bootstrap, Map<String, Object> own) {
        Map<String, Object> all = new HashMap<>(SETTINGS);
        all.put("bootstrap.servers", bootstrap);
        all.putAll(own);
        return all;
    }

    static void produce(String bootstrap, String topic, int partitions, long nextId) throws Exception {
        AtomicIntegerArray unanswered = new AtomicIntegerArray(partitions);
        Map<String, Object> settings = settings(bootstrap, Map.of("acks", "all", "enable.idempotence", true,
            "delivery.timeout.ms", 300_000, "max.block.ms", 60_000, "linger.ms", 0));
        KafkaProducer<byte[], String> producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new StringSerializer());
        while (!over) {
            for (int partition = 0; partition < partitions; partition++) {
                if (unanswered.get(partition) >= UNANSWERED_MAX) continue;
                long id = nextId++;
                int where = partition;
                unanswered.incrementAndGet(where);
                say("S", id, where);
                producer.send(new ProducerRecord<>(topic, where, null, id + PADDING), (told, failed) -> {
                    unanswered.decrementAndGet(where);
                    if (failed == null) say("A", id, told.offset());
                    else say("F", id, failed);
                });
            }
            Thread.sleep(PAUSE_MS);
        }
        producer.close(CLOSE);
    }

    static void consume(String bootstrap, String topic, String group) {
        Map<String, Object> settings = settings(bootstrap, Map.of("group.id", group, "enable.auto.commit", false,
            "auto.offset.reset", "earliest", "session.timeout.ms", 6000, "heartbeat.interval.ms", 500, "fetch.max.wait.ms", 100,
            "default.api.timeout.ms", 10_000));
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                for (TopicPartition each : partitions) {
                    long position = -1;
                    try {
                        position = consumer.position(each, POSITION);
                    } catch (KafkaException unknown) {
                        say("I", "position:", unknown);
                    }
                    say("M", each.partition(), position);
                }
            }
        });
        long commitAt = 0;
        while (!over) {
            try {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    String value = new String(record.value(), StandardCharsets.UTF_8);
                    say("P", record.partition(), record.offset(), value.substring(0, value.indexOf(' ')));
                }
            } catch (KafkaException failed) {
                say("E", failed);
            }
            if (System.nanoTime() >= commitAt) {
                commitAt = System.nanoTime() + COMMIT_EVERY_MS * 1_000_000;
                consumer.commitAsync((offsets, failed) -> {
                    if (failed != null) say("I", "commit:", failed);
                    else offsets.forEach((partition, at) -> say("C", partition.partition(), at.offset()));
                });
            }
        }
        consumer.close(CloseOptions.timeout(CLOSE));
    }
}
