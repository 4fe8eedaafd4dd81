use std::io::Write;
use std::time::{Duration, Instant};

use klamm_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, MetadataRequest, ProduceRequest,
};
use klamm_protocol::{Message, Reader};

use crate::broker::{eventually, start};
use crate::socket::{batch, fetch_request, produce_request};

#[test]
fn pipelined_requests_are_appended_and_answered_in_order() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let sent: Vec<i32> =
        (0..300).map(|_| socket.send(9, &produce_request("t", 0, -1, batch(&[b"x"])))).collect();
    for (at, sent) in sent.into_iter().enumerate() {
        let (answered, response) = socket.receive::<ProduceRequest>(9);
        assert_eq!(answered, sent);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, at as i64);
    }
}

#[test]
fn a_waiting_answer_holds_back_answers_but_not_appends() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 2, &[]);
    let mut socket = broker.connect();
    let fetch = socket.send(12, &fetch_request("t", 1, 0, 1_000));
    let produce = socket.send(9, &produce_request("t", 0, 1, batch(&[b"x"])));
    let began = Instant::now();
    eventually("the record behind the long poll is stored", || {
        broker.connect().fetch("t", 0, 0, 0).high_watermark == 1
    });
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(socket.receive::<FetchRequest>(12).0, fetch);
    assert_eq!(socket.receive::<ProduceRequest>(9).0, produce);
}

#[test]
fn a_request_behind_a_full_window_waits_and_is_answered() {
    let (_dir, broker) = start(&[("max.inflight.requests.per.connection", "2")]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    for _ in 0..20 {
        socket.send(12, &fetch_request("t", 0, 0, 20));
    }
    for _ in 0..20 {
        socket.receive::<FetchRequest>(12);
    }
}

#[test]
fn impossible_lengths_end_the_connection_and_nothing_else() {
    let (_dir, broker) = start(&[("socket.request.max.bytes", "1000")]);
    for length in [-1, 1001, i32::MAX, i32::MIN] {
        let mut socket = broker.connect();
        socket.stream.write_all(&length.to_be_bytes()).expect("sent");
        assert!(socket.is_closed(), "{length}");
    }
    broker.connect().call(9, &MetadataRequest { topics: None, ..Default::default() });
}

#[test]
fn unreadable_and_unserved_requests_end_the_connection() {
    let (_dir, broker) = start(&[]);
    for frame in [
        &[][..],
        &[0, 3],
        // An API that nobody knows, Produce 2, EndTxn 0.
        &[0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff],
        &[0, 26, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
        // Metadata 9 whose body is cut off.
        &[0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0],
    ] {
        let mut socket = broker.connect();
        socket.stream.write_all(&(frame.len() as i32).to_be_bytes()).expect("sent");
        socket.stream.write_all(frame).expect("sent");
        assert!(socket.is_closed(), "{frame:?}");
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_the_oldest_form() {
    let (_dir, broker) = start(&[]);
    let mut socket = broker.connect();
    // A flexible header without client id and tagged fields, then a body in no known form.
    let header = [0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0];
    let body = [0xff; 20];
    let len = (header.len() + body.len()) as i32;
    socket.stream.write_all(&[&len.to_be_bytes()[..], &header, &body].concat()).expect("sent");
    let mut reader = Reader::new(socket.frame().expect("an answer"));
    assert_eq!(reader.i32(), Ok(7));
    let answer = ApiVersionsResponse::decode_whole(&mut reader, 0).expect("version 0");
    let ranges: Vec<_> =
        answer.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
    assert_eq!((answer.error_code, ranges), (35, vec![(18, 0, 4)]));
    // The connection goes on.
    let request = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1.0".to_owned(),
    };
    let answer = socket.call(4, &request);
    let produce = answer.api_keys.iter().find(|api| api.api_key == 0).expect("Produce");
    assert_eq!((answer.error_code, produce.min_version, produce.max_version), (0, 0, 11));
    let nameless = ApiVersionsRequest::default();
    assert_eq!(socket.call(3, &nameless).error_code, 42);
}

#[test]
fn connections_of_one_address_are_limited() {
    let (_dir, broker) = start(&[("max.connections.per.ip", "2")]);
    let request = MetadataRequest { topics: None, ..Default::default() };
    let (mut first, mut second) = (broker.connect(), broker.connect());
    first.call(9, &request);
    second.call(9, &request);
    assert!(broker.connect().is_closed());
    drop(first);
    eventually("a place is free again", || {
        let mut socket = broker.connect();
        let header = [0u8, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
        let sent = socket.stream.write_all(&10i32.to_be_bytes());
        sent.is_ok() && socket.stream.write_all(&header).is_ok() && socket.frame().is_some()
    });
    second.call(9, &request);
}

#[test]
fn an_address_may_have_a_limit_of_its_own() {
    let (_dir, broker) = start(&[
        ("max.connections.per.ip", "1"),
        ("max.connections.per.ip.overrides", "10.0.0.1:7,127.0.0.1:3"),
    ]);
    let request = MetadataRequest { topics: None, ..Default::default() };
    let mut held: Vec<_> = (0..3).map(|_| broker.connect()).collect();
    for socket in &mut held {
        socket.call(9, &request);
    }
    assert!(broker.connect().is_closed());
}

#[test]
fn an_idle_connection_is_closed() {
    let (_dir, broker) = start(&[("connections.max.idle.ms", "200")]);
    let mut socket = broker.connect();
    let began = Instant::now();
    assert!(socket.is_closed());
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_reads_slowly_gets_everything() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    for _ in 0..20 {
        socket.produce("t", 0, -1, batch(&[&vec![5; 500_000]]));
    }
    // Far more than the socket's buffers hold is on its way before the first byte is read.
    for _ in 0..20 {
        let mut request = fetch_request("t", 0, 0, 0);
        request.topics[0].partitions[0].partition_max_bytes = 10 << 20;
        socket.send(12, &request);
    }
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..20 {
        let (_, response) = socket.receive::<FetchRequest>(12);
        assert_eq!(crate::socket::records(&response.responses[0].partitions[0]).len(), 20);
    }
}
