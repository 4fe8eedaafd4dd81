//! The settings of a broker.

use super::key::{
    Allowed, AuthScheme, CleanupPolicy, CompressionType, FlushClass, Key, Kind, LostSession,
    OffsetsStorage, Origin, Password, RecordValidation, TimestampType, Update,
};

macro_rules! broker_table {
    ($($field:ident: $ty:ty, $name:literal, $kind:ident, $default:expr, $allowed:expr,
       $update:ident, $origin:expr, $doc:literal;)*) => {
        /// Every broker key.
        pub const BROKER_KEYS: &[Key] = &[$(
            Key {
                name: $name,
                kind: Kind::$kind,
                default: $default,
                allowed: $allowed,
                update: Update::$update,
                origin: $origin,
                synonyms: &[],
                doc: $doc,
            },
        )*];

        /// The settings of a broker, each with its type; [`super::BrokerConfig`] adds what follows
        /// from several of them.
        #[derive(Clone, Debug, PartialEq)]
        pub struct BrokerValues {
            $(#[doc = $doc] pub $field: $ty,)*
        }

        impl BrokerValues {
            /// From the canonical text of every key; `None` is Kafka's null.
            pub(crate) fn from_texts(text: impl Fn(&Key) -> Option<String>) -> BrokerValues {
                use super::key::Field;
                let mut rows = BROKER_KEYS.iter();
                BrokerValues {
                    $($field: <$ty>::from_canonical(
                        text(rows.next().expect("one field for each row")).as_deref(),
                    ),)*
                }
            }
        }
    };
}

const OPEN_ON_LOOPBACK: Origin =
    Origin::Default("a newcomer's broker is not open to the network; Kafka's is :9092");
const PLACE_OF_DATA: Origin =
    Origin::Default("below the working directory; Kafka's is a folder in /tmp");
const FIRST_BROKER: Origin =
    Origin::Default("one broker needs no number; it becomes broker 1 of a cluster");
const GROWS_WITH_USE: Origin = Origin::Default(
    "the system's own grows with use; Kafka's 102400 is a tenth of a large request",
);
const BOUNDED: Origin = Origin::Default("everything is bounded; Kafka's -1 sets no bound");
const NO_MORE_THAN_BROKERS: Origin =
    Origin::Default("at creation no more than there are registered brokers; Kafka's is 3 always");

const MAX_INT: Option<&str> = Some("2147483647");
const MAX_LONG: Option<&str> = Some("9223372036854775807");
const PROTOCOL_MAP: Option<&str> =
    Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT");
const SELECTORS: &[&str] = &[
    "org.apache.kafka.common.replica.LeaderSelector",
    "org.apache.kafka.common.replica.RackAwareReplicaSelector",
];
const SOCKETS: &[&str] =
    &["org.apache.zookeeper.ClientCnxnSocketNetty", "org.apache.zookeeper.ClientCnxnSocketNIO"];
const CODECS: Allowed = Allowed::OneOf(CompressionType::WORDS);

broker_table! {
    // Who and where.
    broker_id: i32, "broker.id", Int, Some("1"), Allowed::AtLeast(0), ReadOnly, FIRST_BROKER,
        "The broker's number in the cluster; node.id is another name for it.";
    node_id: Option<i32>, "node.id", Int, None, Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Another name for broker.id, and stronger; where both are given they have to be equal.";
    broker_rack: Option<String>, "broker.rack", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "Where the broker stands; replicas of a partition are spread over racks.";
    listeners: Vec<String>, "listeners", List, Some("PLAINTEXT://127.0.0.1:9092"), Allowed::Any, ReadOnly, OPEN_ON_LOOPBACK,
        "Addresses to listen on, as NAME://HOST:PORT. No host means every interface, port 0 picks a free one.";
    advertised_listeners: Vec<String>, "advertised.listeners", List, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "Addresses that clients are told, as NAME://HOST:PORT, where they differ from listeners.";
    listener_security_protocol_map: Vec<String>, "listener.security.protocol.map", List, PROTOCOL_MAP, Allowed::Any, ReadOnly, Origin::Kafka,
        "The security protocol behind each listener's name, as NAME:PROTOCOL.";
    controller_listener_names: Vec<String>, "controller.listener.names", List, Some(""), Allowed::Any, ReadOnly, Origin::Kafka,
        "Listeners of a KRaft controller. Klamm has none and opens no listener that is named here.";
    inter_broker_listener_name: Option<String>, "inter.broker.listener.name", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The listener that brokers use among themselves; the first one if not given.";
    zookeeper_connect: Option<String>, "zookeeper.connect", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The ZooKeeper ensemble that the cluster's metadata is kept in, as HOST:PORT,HOST:PORT/CHROOT; a file in the data directory if not given.";
    zookeeper_session_timeout_ms: i32, "zookeeper.session.timeout.ms", Int, Some("18000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds of silence after which the ensemble takes the broker for dead; it may negotiate other ones. The broker believes in its session for two thirds of them.";
    zookeeper_connection_timeout_ms: Option<i32>, "zookeeper.connection.timeout.ms", Int, None, Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds to wait for a session with the ensemble to begin; zookeeper.session.timeout.ms if not given.";
    zookeeper_max_in_flight_requests: i32, "zookeeper.max.in.flight.requests", Int, Some("10"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Requests to the ensemble that wait for an answer at most.";
    zookeeper_lost_session: LostSession, "zookeeper.lost.session", String, Some("serve"), Allowed::OneOf(LostSession::WORDS), ReadOnly, Origin::Klamm,
        "What the broker does while its session with the ensemble may be over: serve goes on with acks=all, reads and followers, none of which can lose anything, though a reader may see an old state; fence refuses all of it, so that no reader sees a state older than the session time-out.";
    zookeeper_client_cnxn_socket: Option<String>, "zookeeper.clientCnxnSocket", String, None, Allowed::OneOf(SOCKETS), ReadOnly, Origin::Kafka,
        "How Kafka's client speaks to ZooKeeper; taken and without effect, as Klamm's client has one way for both.";
    zookeeper_auth_scheme: Option<AuthScheme>, "zookeeper.auth.scheme", String, None, Allowed::OneOf(AuthScheme::WORDS), ReadOnly, Origin::Klamm,
        "How the broker says to the ensemble who it is: digest is ZooKeeper's own scheme, which sends name and password as they are; sasl is DIGEST-MD5, which does not send the password, in programs that are built with it. In the place of the section Client of Kafka's JAAS file; all brokers of a cluster use the same.";
    zookeeper_auth_user: Option<String>, "zookeeper.auth.user", String, None, Allowed::Any, ReadOnly, Origin::Klamm,
        "The name of the broker to the ensemble.";
    zookeeper_auth_password: Option<Password>, "zookeeper.auth.password", Password, None, Allowed::Any, ReadOnly, Origin::Klamm,
        "The password that belongs to zookeeper.auth.user.";
    zookeeper_set_acl: bool, "zookeeper.set.acl", Boolean, Some("false"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether the nodes that the broker makes are its own: everybody may read them but those that may hold secrets, and nobody else may write them. Otherwise they are everybody's.";
    zookeeper_ssl_client_enable: bool, "zookeeper.ssl.client.enable", Boolean, Some("false"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether the ensemble is reached by TLS, in programs that are built with it. The other keys of zookeeper.ssl count only then.";
    zookeeper_ssl_truststore_location: Option<String>, "zookeeper.ssl.truststore.location", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "A file in PEM with the certificates of those who vouch for the servers, and perhaps lists of revoked certificates.";
    zookeeper_ssl_truststore_type: Option<String>, "zookeeper.ssl.truststore.type", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The form of the truststore; only PEM is read.";
    zookeeper_ssl_truststore_password: Option<Password>, "zookeeper.ssl.truststore.password", Password, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The password of the truststore; refused, as PEM has none.";
    zookeeper_ssl_keystore_location: Option<String>, "zookeeper.ssl.keystore.location", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "A file in PEM with the broker's certificate, those between it and the authority, and its private key, for servers that ask for it.";
    zookeeper_ssl_keystore_type: Option<String>, "zookeeper.ssl.keystore.type", String, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The form of the keystore; only PEM is read.";
    zookeeper_ssl_keystore_password: Option<Password>, "zookeeper.ssl.keystore.password", Password, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The password of the private key; refused, as encrypted keys are not read.";
    zookeeper_ssl_endpoint_identification_algorithm: String, "zookeeper.ssl.endpoint.identification.algorithm", String, Some("HTTPS"), Allowed::Any, ReadOnly, Origin::Kafka,
        "How the servers' names are verified; anything but HTTPS is refused, as they always are.";
    zookeeper_ssl_protocol: String, "zookeeper.ssl.protocol", String, Some("TLSv1.2"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Kafka's choice of a protocol; any other than the default is refused, as the best that the server has of TLSv1.3 and TLSv1.2 is spoken.";
    zookeeper_ssl_enabled_protocols: Vec<String>, "zookeeper.ssl.enabled.protocols", List, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The protocols that are offered; a list without TLSv1.3 and TLSv1.2 is refused.";
    zookeeper_ssl_cipher_suites: Vec<String>, "zookeeper.ssl.cipher.suites", List, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The cipher suites that are offered; refused, as they cannot be chosen.";
    zookeeper_ssl_crl_enable: bool, "zookeeper.ssl.crl.enable", Boolean, Some("false"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether lists of revoked certificates are fetched; true is refused. Those in the truststore's file are honoured in any case.";
    zookeeper_ssl_ocsp_enable: bool, "zookeeper.ssl.ocsp.enable", Boolean, Some("false"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether certificates are asked about while connecting; true is refused.";
    log_dir: String, "log.dir", String, Some("klamm-data"), Allowed::Any, ReadOnly, PLACE_OF_DATA,
        "The directory for logs, where log.dirs is not given.";
    log_dirs: Option<Vec<String>>, "log.dirs", List, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "The directories for logs, one for each disk.";
    log_open_files_max: i32, "log.open.files.max", Int, Some("0"), Allowed::AtLeast(0), ReadOnly, Origin::Klamm,
        "Files of complete segments that all logs together keep open for readers, the least recently used closed first; 0 is half of the descriptors that the process may have beyond 48, at most 65536. Files in use and files that are not synced yet stay open beyond it.";

    // Connections and their memory.
    event_loops: i32, "event.loops", Int, Some("0"), Allowed::Between(0, 1024), ReadOnly, Origin::Klamm,
        "Threads that serve connections; 0 is one for each core.";
    socket_listen_backlog_size: i32, "socket.listen.backlog.size", Int, Some("50"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Connections that may wait to be accepted.";
    socket_send_buffer_bytes: i32, "socket.send.buffer.bytes", Int, Some("102400"), Allowed::AtLeast(-1), ReadOnly, Origin::Kafka,
        "Size of a connection's send buffer in the kernel; -1 leaves it to the system.";
    socket_receive_buffer_bytes: i32, "socket.receive.buffer.bytes", Int, Some("-1"), Allowed::AtLeast(-1), ReadOnly, GROWS_WITH_USE,
        "Size of a connection's receive buffer in the kernel; -1 leaves it to the system, which lets it grow with what is read. What is smaller than a request makes it come in pieces, each of which wakes the broker.";
    socket_request_max_bytes: i32, "socket.request.max.bytes", Int, Some("104857600"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Largest request in bytes; a connection that announces a larger one is closed.";
    queued_max_request_bytes: i64, "queued.max.request.bytes", Long, Some("268435456"), Allowed::AtLeast(1), ReadOnly, BOUNDED,
        "Memory in bytes for requests that are being read or handled; when it is used up no further request is read. At least socket.request.max.bytes.";
    max_inflight_requests_per_connection: i32, "max.inflight.requests.per.connection", Int, Some("100"), Allowed::AtLeast(1), ReadOnly, Origin::Klamm,
        "Answers that one connection may have outstanding; further requests are not read until the first is sent.";
    max_connections: i32, "max.connections", Int, MAX_INT, Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Connections that the broker keeps open at once; further ones wait to be accepted.";
    max_connections_per_ip: i32, "max.connections.per.ip", Int, MAX_INT, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Connections that one address may keep open at once.";
    max_connections_per_ip_overrides: String, "max.connections.per.ip.overrides", String, Some(""), Allowed::AddressCounts, ClusterWide, Origin::Kafka,
        "Other bounds for some IP addresses, as ADDRESS:COUNT,….";
    connections_max_idle_ms: i64, "connections.max.idle.ms", Long, Some("600000"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Milliseconds after which a silent connection is closed; negative never.";

    // Topics.
    auto_create_topics_enable: bool, "auto.create.topics.enable", Boolean, Some("true"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether a topic that a client asks for is created.";
    num_partitions: i32, "num.partitions", Int, Some("1"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Partitions of a new topic where its creator does not say.";
    default_replication_factor: i32, "default.replication.factor", Int, Some("1"), Allowed::Between(1, 32_767), ReadOnly, Origin::Kafka,
        "Replicas of a new topic's partitions where its creator does not say.";
    delete_topic_enable: bool, "delete.topic.enable", Boolean, Some("true"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether topics can be deleted.";
    min_insync_replicas: i32, "min.insync.replicas", Int, Some("1"), Allowed::AtLeast(1), ClusterWide, Origin::Kafka,
        "In-sync replicas that must have a record before acks=all is answered; for topics that do not say.";
    unclean_leader_election_enable: bool, "unclean.leader.election.enable", Boolean, Some("false"), Allowed::Any, ClusterWide, Origin::Kafka,
        "Whether a replica outside the in-sync set may be elected when nobody else is left; for topics that do not say.";
    auto_leader_rebalance_enable: bool, "auto.leader.rebalance.enable", Boolean, Some("true"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether the controller gives leadership back to preferred replicas by itself; they lead on request in any case.";
    leader_imbalance_check_interval_seconds: i64, "leader.imbalance.check.interval.seconds", Long, Some("300"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Seconds between two looks of the controller for brokers that lead too few of the partitions that prefer them; with one broker it does not look.";
    leader_imbalance_per_broker_percentage: i32, "leader.imbalance.per.broker.percentage", Int, Some("10"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Percentage of the partitions preferring a broker that others may lead before it gets them back; Kafka had this key up to 3.9.";
    message_max_bytes: i32, "message.max.bytes", Int, Some("1048588"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Largest batch of records in bytes, as it is stored; for topics that do not say.";
    compression_type: CompressionType, "compression.type", String, Some("producer"), CODECS, ClusterWide, Origin::Kafka,
        "The codec in which batches are stored, for topics that do not say; producer keeps what the producer chose.";
    compression_gzip_level: i32, "compression.gzip.level", Int, Some("-1"), Allowed::BetweenOr(1, 9, -1), ClusterWide, Origin::Kafka,
        "Effort of gzip where compression.type is gzip; -1 is the codec's own default.";
    compression_lz4_level: i32, "compression.lz4.level", Int, Some("9"), Allowed::Between(1, 17), ClusterWide, Origin::Kafka,
        "Effort of lz4 where compression.type is lz4.";
    compression_zstd_level: i32, "compression.zstd.level", Int, Some("3"), Allowed::Between(-131_072, 22), ClusterWide, Origin::Kafka,
        "Effort of zstd where compression.type is zstd.";
    flush: FlushClass, "flush", String, Some("acked"), Allowed::OneOf(FlushClass::WORDS), ClusterWide, Origin::Klamm,
        "When an append with acks=all is acknowledged, for topics created from now on: acked, when it is on stable storage; os, when the operating system has it, as in Kafka.";
    record_validation: RecordValidation, "record.validation", String, Some("header"), Allowed::OneOf(RecordValidation::WORDS), ClusterWide, Origin::Klamm,
        "How closely a produced batch is checked, for topics that do not say: header or full.";

    // Logs.
    log_cleanup_policy: CleanupPolicy, "log.cleanup.policy", List, Some("delete"), Allowed::EachOf(&["compact", "delete"]), ClusterWide, Origin::Kafka,
        "What becomes of old records, for topics that do not say: delete, compact, both or nothing.";
    log_retention_ms: Option<i64>, "log.retention.ms", Long, None, Allowed::Any, ClusterWide, Origin::Kafka,
        "Milliseconds for which segments are kept; if not given, log.retention.minutes holds.";
    log_retention_minutes: Option<i32>, "log.retention.minutes", Int, None, Allowed::Any, ReadOnly, Origin::Kafka,
        "Minutes for which segments are kept; if not given, log.retention.hours holds.";
    log_retention_hours: i32, "log.retention.hours", Int, Some("168"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Hours for which segments are kept; negative for ever.";
    log_retention_bytes: i64, "log.retention.bytes", Long, Some("-1"), Allowed::Any, ClusterWide, Origin::Kafka,
        "Bytes that a partition may reach before its oldest segments go; -1 sets no bound.";
    log_retention_check_interval_ms: i64, "log.retention.check.interval.ms", Long, Some("300000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds between two looks for segments to delete.";
    log_segment_bytes: i32, "log.segment.bytes", Int, Some("1073741824"), Allowed::AtLeast(1_048_576), ClusterWide, Origin::Kafka,
        "Size in bytes at which a new segment is begun.";
    log_segment_delete_delay_ms: i64, "log.segment.delete.delay.ms", Long, Some("60000"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds between taking a segment out of the log and removing its files.";
    log_roll_ms: Option<i64>, "log.roll.ms", Long, None, Allowed::AtLeast(1), ClusterWide, Origin::Kafka,
        "Milliseconds after which a new segment is begun; if not given, log.roll.hours holds.";
    log_roll_hours: i32, "log.roll.hours", Int, Some("168"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Hours after which a new segment is begun.";
    log_roll_jitter_ms: Option<i64>, "log.roll.jitter.ms", Long, None, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds at most that are taken off log.roll.ms at random; if not given, log.roll.jitter.hours holds.";
    log_roll_jitter_hours: i32, "log.roll.jitter.hours", Int, Some("0"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Hours at most that are taken off log.roll.hours at random.";
    log_index_interval_bytes: i32, "log.index.interval.bytes", Int, Some("4096"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Bytes of log between two entries of the offset index.";
    log_index_size_max_bytes: i32, "log.index.size.max.bytes", Int, Some("10485760"), Allowed::AtLeast(4), ClusterWide, Origin::Kafka,
        "Largest size of an offset index in bytes.";
    log_preallocate: bool, "log.preallocate", Boolean, Some("false"), Allowed::Any, ClusterWide, Origin::Kafka,
        "Whether room for a full segment is set aside on the disk when it is begun, where the file system can; the file's length stays what is written, and the rest comes free when the segment is complete or the log is closed.";
    log_flush_interval_messages: i64, "log.flush.interval.messages", Long, MAX_LONG, Allowed::AtLeast(1), ClusterWide, Origin::Kafka,
        "Number of records after which a log is synced to disk whatever else is due.";
    log_flush_interval_ms: Option<i64>, "log.flush.interval.ms", Long, None, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds after which unsynced records are synced; if not given, log.flush.scheduler.interval.ms holds.";
    log_flush_scheduler_interval_ms: i64, "log.flush.scheduler.interval.ms", Long, MAX_LONG, Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Milliseconds after which unsynced records are synced, where log.flush.interval.ms is not given.";
    replica_high_watermark_checkpoint_interval_ms: i64, "replica.high.watermark.checkpoint.interval.ms", Long, Some("5000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds between two checkpoints of the high watermarks.";
    num_replica_fetchers: i32, "num.replica.fetchers", Int, Some("1"), Allowed::Between(1, 64), ReadOnly, Origin::Kafka,
        "Connections over which partitions are fetched from each of their leaders.";
    replica_fetch_wait_max_ms: i32, "replica.fetch.wait.max.ms", Int, Some("500"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Milliseconds that a leader may let a follower wait for records.";
    replica_fetch_min_bytes: i32, "replica.fetch.min.bytes", Int, Some("1"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Bytes that a leader waits for before it answers a follower.";
    replica_fetch_max_bytes: i32, "replica.fetch.max.bytes", Int, Some("1048576"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Most bytes of one partition that a follower asks for at once; a first batch that is larger is sent all the same.";
    replica_fetch_response_max_bytes: i32, "replica.fetch.response.max.bytes", Int, Some("10485760"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Most bytes that a follower asks for at once.";
    replica_fetch_backoff_ms: i32, "replica.fetch.backoff.ms", Int, Some("1000"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Milliseconds after which a follower tries again what failed.";
    replica_socket_timeout_ms: i32, "replica.socket.timeout.ms", Int, Some("30000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds that another broker may take to accept a connection, and to answer beyond what it was asked to wait.";
    replica_lag_time_max_ms: i64, "replica.lag.time.max.ms", Long, Some("30000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds without having caught up after which a follower is not in sync any more.";
    leader_replication_throttled_rate: i64, "leader.replication.throttled.rate", Long, MAX_LONG, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Bytes a second that go to followers out of sync of the partitions that leader.replication.throttled.replicas lists, all topics together; Kafka does not read it at start.";
    follower_replication_throttled_rate: i64, "follower.replication.throttled.rate", Long, MAX_LONG, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Bytes a second that are fetched from leaders, while out of sync, of the partitions that follower.replication.throttled.replicas lists, all topics together; Kafka does not read it at start.";
    replication_quota_window_num: i32, "replication.quota.window.num", Int, Some("11"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Samples that the throttled rates of replication are measured over.";
    replication_quota_window_size_seconds: i32, "replication.quota.window.size.seconds", Int, Some("1"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Seconds of each sample that the throttled rates of replication are measured over.";
    replica_selector_class: Option<String>, "replica.selector.class", String, None, Allowed::OneOf(SELECTORS), ReadOnly, Origin::Kafka,
        "How a consumer is sent to a replica near it: Kafka's RackAwareReplicaSelector by broker.rack and the consumer's client.rack; consumers read from leaders if not given.";
    controlled_shutdown_enable: bool, "controlled.shutdown.enable", Boolean, Some("true"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether a broker that stops first waits until others lead its partitions.";
    log_message_timestamp_type: TimestampType, "log.message.timestamp.type", String, Some("CreateTime"), Allowed::OneOf(TimestampType::WORDS), ClusterWide, Origin::Kafka,
        "Whether a record carries the time of its creation or of its append; for topics that do not say.";
    log_message_timestamp_before_max_ms: i64, "log.message.timestamp.before.max.ms", Long, MAX_LONG, Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "How far a timestamp may lie behind the broker's clock, in milliseconds.";
    log_message_timestamp_after_max_ms: i64, "log.message.timestamp.after.max.ms", Long, Some("3600000"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "How far a timestamp may lie ahead of the broker's clock, in milliseconds.";
    log_cleaner_enable: bool, "log.cleaner.enable", Boolean, Some("true"), Allowed::Any, ReadOnly, Origin::Kafka,
        "Whether logs of compacted topics are compacted.";
    log_cleaner_threads: i32, "log.cleaner.threads", Int, Some("1"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Logs that are compacted at a time.";
    log_cleaner_backoff_ms: i64, "log.cleaner.backoff.ms", Long, Some("15000"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds between two looks for logs to compact.";
    log_cleaner_dedupe_buffer_size: i64, "log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Most memory in bytes that all cleaners together take for keys; no more is taken than the log has records, and it is given back after the pass.";
    log_cleaner_io_buffer_load_factor: f64, "log.cleaner.io.buffer.load.factor", Double, Some("0.9"), Allowed::Between(0, 1), ClusterWide, Origin::Kafka,
        "How full the memory for keys may get, as a share of it.";
    log_cleaner_io_max_bytes_per_second: f64, "log.cleaner.io.max.bytes.per.second", Double, Some("1.7976931348623157E308"), Allowed::Any, ClusterWide, Origin::Kafka,
        "Bytes a second that a cleaner reads and writes at most.";
    log_cleaner_delete_retention_ms: i64, "log.cleaner.delete.retention.ms", Long, Some("86400000"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds for which compacted topics keep a tombstone.";
    log_cleaner_min_cleanable_ratio: f64, "log.cleaner.min.cleanable.ratio", Double, Some("0.5"), Allowed::Between(0, 1), ClusterWide, Origin::Kafka,
        "Share of a compacted log that must be uncompacted before it is worth a pass.";
    log_cleaner_min_compaction_lag_ms: i64, "log.cleaner.min.compaction.lag.ms", Long, Some("0"), Allowed::AtLeast(0), ClusterWide, Origin::Kafka,
        "Milliseconds for which a record of a compacted topic stays uncompacted.";
    log_cleaner_max_compaction_lag_ms: i64, "log.cleaner.max.compaction.lag.ms", Long, MAX_LONG, Allowed::AtLeast(1), ClusterWide, Origin::Kafka,
        "Milliseconds after which a record of a compacted topic has to be compacted.";
    log_local_retention_ms: i64, "log.local.retention.ms", Long, Some("-2"), Allowed::AtLeast(-2), ClusterWide, Origin::Kafka,
        "Milliseconds to keep on the broker's own disks where remote storage is on, which Klamm does not have.";
    log_local_retention_bytes: i64, "log.local.retention.bytes", Long, Some("-2"), Allowed::AtLeast(-2), ClusterWide, Origin::Kafka,
        "Bytes to keep on the broker's own disks where remote storage is on, which Klamm does not have.";
    producer_id_expiration_ms: i32, "producer.id.expiration.ms", Int, Some("86400000"), Allowed::AtLeast(1), ClusterWide, Origin::Kafka,
        "Milliseconds after its last record for which a producer's sequence is remembered.";

    // Reading.
    fetch_max_bytes: i32, "fetch.max.bytes", Int, Some("57671680"), Allowed::AtLeast(1024), ReadOnly, Origin::Kafka,
        "Largest answer to a fetch in bytes; a first batch that is larger is sent all the same.";
    max_request_partition_size_limit: i32, "max.request.partition.size.limit", Int, Some("2000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Partitions in one answer to DescribeTopicPartitions at most; the client asks on from there.";
    max_incremental_fetch_session_cache_slots: i32, "max.incremental.fetch.session.cache.slots", Int, Some("1000"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Fetch sessions that are remembered.";

    // Groups.
    group_initial_rebalance_delay_ms: i32, "group.initial.rebalance.delay.ms", Int, Some("3000"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Milliseconds for which an empty group waits for more members before its first assignment.";
    group_min_session_timeout_ms: i32, "group.min.session.timeout.ms", Int, Some("6000"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Shortest session timeout that a member may ask for, in milliseconds.";
    group_max_session_timeout_ms: i32, "group.max.session.timeout.ms", Int, Some("1800000"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Longest session timeout that a member may ask for, in milliseconds.";
    group_max_size: i32, "group.max.size", Int, MAX_INT, Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Members that a group may have.";
    offset_metadata_max_bytes: i32, "offset.metadata.max.bytes", Int, Some("4096"), Allowed::AtLeast(0), ReadOnly, Origin::Kafka,
        "Longest text in bytes that a client may attach to a committed offset.";
    offsets_commit_timeout_ms: i32, "offsets.commit.timeout.ms", Int, Some("5000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds that a write to an offsets topic may take before its client is told so.";
    offsets_storage: OffsetsStorage, "offsets.storage", String, Some("kafka"), Allowed::OneOf(OffsetsStorage::WORDS), ReadOnly, Origin::Klamm,
        "Where groups' committed offsets are kept, the same for all brokers of a cluster: kafka is the replicated topic __consumer_offsets; zookeeper is the tree of the cluster's metadata, below /consumers, where Kafka's old consumers had them (docs/zookeeper.md).";
    offsets_retention_minutes: i32, "offsets.retention.minutes", Int, Some("10080"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Minutes for which the offsets of a group without members are kept.";
    offsets_retention_check_interval_ms: i64, "offsets.retention.check.interval.ms", Long, Some("600000"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Milliseconds between two looks for offsets to drop.";
    offsets_topic_num_partitions: i32, "offsets.topic.num.partitions", Int, Some("50"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Partitions of __consumer_offsets when it is created.";
    offsets_topic_replication_factor: i16, "offsets.topic.replication.factor", Short, Some("3"), Allowed::AtLeast(1), ReadOnly, NO_MORE_THAN_BROKERS,
        "Replicas of __consumer_offsets when it is created; a number that was given is taken as it is.";
    offsets_topic_segment_bytes: i32, "offsets.topic.segment.bytes", Int, Some("104857600"), Allowed::AtLeast(1), ReadOnly, Origin::Kafka,
        "Segment size of __consumer_offsets in bytes.";
}
