use clap::error::ErrorKind;
use klamm_protocol::compression::Compression;

use super::*;
use crate::verbs::produce::AcksArg;

fn parse(line: &str) -> Result<Verb, ErrorKind> {
    let words = std::iter::once("klamm").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.verb).map_err(|error| {
        let kind = error.kind();
        let expected = i32::from(error.use_stderr()) * 2;
        assert_eq!(error.exit_code(), expected, "wrong usage is 2, help is 0");
        kind
    })
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn a_topic_is_created_with_partitions_and_settings() {
    let line = "topic create orders --partitions 3 --replication-factor 2 \
                --config retention.ms=1000 --config cleanup.policy=";
    let Ok(Verb::Topic(topic::Topic::Create(create))) = parse(line) else { panic!("parses") };
    assert_eq!((create.topic.as_str(), create.partitions), ("orders", Some(3)));
    assert_eq!(create.replication_factor, Some(2));
    assert_eq!(create.config[0], ("retention.ms".to_owned(), "1000".to_owned()));
    assert_eq!(create.config[1], ("cleanup.policy".to_owned(), String::new()));
    assert_eq!(create.connect.bootstrap, ["127.0.0.1:9092"]);
    assert!(!create.connect.json);
}

#[test]
fn wrong_usage_is_told_before_anything_is_done() {
    for line in [
        "topic create",
        "topic create orders --partitions 0",
        "topic create orders --config nonsense",
        "topic delete",
        "topic list --bootstrap nowhere",
        "topic list --bootstrap :9092",
        "topic list --bootstrap host:99999",
        "produce",
        "produce t --partition -1",
        "produce t --header nonsense",
        "produce t --compression brotli",
        "produce t --acks 2",
        "consume",
        "consume t --offset -2",
        "consume t --offset 5 --from-beginning",
        "consume t --group g --offset 5",
        "consume t --group g --partition 0",
        "consume t --max-messages 0",
        "group describe",
        "group reset g --to-earliest",
        "group reset g --topic t",
        "group reset g --topic t --to-earliest --to-latest",
        "group reset g --topic t --to-datetime yesterday",
        "group reset g --topic t --by-duration 5",
        "bench produce",
        "bench produce t --record-size 23",
        "bench produce t --partitions 0",
        "bench produce t --rate 0",
        "bench produce t --duration 0",
        "bench produce t --warm-up -1",
        "bench produce t --content empty",
        "bench consume t --records 0",
        "bench consume t --check",
        "bench latency t --records 0",
        "nonsense",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn several_brokers_may_be_asked_first() {
    let Ok(Verb::Topic(topic::Topic::List(list))) =
        parse("topic list --bootstrap a:1,[::1]:2 --json")
    else {
        panic!("parses")
    };
    assert_eq!(list.connect.bootstrap, ["a:1", "[::1]:2"]);
    assert!(list.connect.json);
}

#[test]
fn a_record_may_have_key_partition_headers_and_codec() {
    let line = "produce t --key-separator : --partition 4 --header a=1 --header b=x=y \
                --compression zstd --acks 1";
    let Ok(Verb::Produce(produce)) = parse(line) else { panic!("parses") };
    assert_eq!(produce.key_separator.as_deref(), Some(":"));
    assert_eq!((produce.partition, produce.compression), (Some(4), Compression::Zstd));
    assert_eq!(produce.acks, AcksArg::Leader);
    assert_eq!(produce.header[1].key, "b");
    assert_eq!(produce.header[1].value.as_deref(), Some(&b"x=y"[..]));
}

#[test]
fn reading_begins_and_ends_where_it_is_told_to() {
    let line = "consume t --partition 2 --offset 10 --max-messages 5";
    let Ok(Verb::Consume(consume)) = parse(line) else { panic!("parses") };
    assert_eq!((consume.partition, consume.offset), (Some(2), Some(10)));
    assert_eq!(consume.max_messages, Some(5));
    let Ok(Verb::Consume(consume)) = parse("consume t --group g --from-beginning") else {
        panic!("parses")
    };
    assert_eq!(consume.group.as_deref(), Some("g"));
    assert!(consume.from_beginning);
}

#[test]
fn a_group_is_moved_one_way_at_a_time() {
    let line = "group reset g --topic t --topic u --shift-by -5 --execute";
    let Ok(Verb::Group(group::Group::Reset(reset))) = parse(line) else { panic!("parses") };
    assert_eq!((reset.to.shift_by, reset.execute), (Some(-5), true));
    assert_eq!(reset.topic, ["t", "u"]);
    let line = "group reset g --topic t --to-datetime 1970-01-01T00:00:01Z";
    let Ok(Verb::Group(group::Group::Reset(reset))) = parse(line) else { panic!("parses") };
    assert_eq!((reset.to.to_datetime, reset.execute), (Some(1000), false));
}

#[test]
fn help_is_no_failure() {
    for line in
        ["--help", "topic --help", "group reset --help", "bench latency --help", "--version"]
    {
        let kind = parse(line).expect_err("shown instead of a verb");
        assert!(matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}");
    }
}
