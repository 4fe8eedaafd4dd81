//! What listens where a broker was that hangs, and answers its followers' fetches as a test says.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use klamm_protocol::frame::{decode_request, encode_response};
use klamm_protocol::messages::fetch::{FetchPartition, FetchableTopicResponse, PartitionData};
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use klamm_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use klamm_protocol::{ApiKey, Message as _};
use uuid::Uuid;

use crate::broker::eventually;

/// Longest wait for a follower to ask.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// The listener; whoever asks goes on waiting until the test answers.
pub(crate) struct FakeLeader {
    asked: Receiver<Asked>,
}

/// A follower's fetch, to be answered. Dropped, it ends the connection.
pub(crate) struct Asked {
    pub(crate) request: FetchRequest,
    correlation_id: i32,
    answer: Sender<Vec<u8>>,
}

impl FakeLeader {
    /// Listens at `address`, which nobody uses any more. The thread ends with the test's process.
    pub(crate) fn at(address: &str) -> FakeLeader {
        let mut listener = None;
        eventually("the address is free", || {
            listener = TcpListener::bind(address).ok();
            listener.is_some()
        });
        let listener = listener.expect("bound");
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), sender) = (stream, sender.clone()) else { return };
                std::thread::spawn(move || serve(stream, &sender));
            }
        });
        FakeLeader { asked }
    }

    /// The next fetch.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.recv_timeout(ASKED_WITHIN).expect("a follower asks")
    }

    /// The next fetch that names all of these partitions of the topic; others are told that there is
    /// nothing new.
    pub(crate) fn asked_for(&self, topic: Uuid, indexes: &[i32]) -> Asked {
        loop {
            let asked = self.asked();
            if indexes.iter().all(|index| asked.partition(topic, *index).is_some()) {
                return asked;
            }
            asked.answer(topic, Vec::new());
        }
    }
}

/// One connection: fetches are the test's to answer, logs begin at 0, and of anything else nothing is
/// known here.
fn serve(mut stream: TcpStream, sender: &Sender<Asked>) {
    while let Some(frame) = read_frame(&mut stream) {
        let (header, mut body) = decode_request(frame.into()).expect("a broker's request");
        let (key, version, id) = (header.api_key, header.api_version, header.correlation_id);
        let bytes = match key {
            ApiKey::Fetch => {
                let request = FetchRequest::decode_whole(&mut body, version).expect("sound");
                let (answer, answered) = channel();
                if sender.send(Asked { request, correlation_id: id, answer }).is_err() {
                    return;
                }
                answered.recv().unwrap_or_default()
            }
            ApiKey::ListOffsets => {
                let request = ListOffsetsRequest::decode_whole(&mut body, version).expect("sound");
                let response = begins_at_zero(&request);
                encode_response(key, version, id, &response).expect("encodes").bytes.to_vec()
            }
            _ => return,
        };
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn begins_at_zero(request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: 0,
                ..Default::default()
            })
            .collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).expect("a length")];
    stream.read_exact(&mut frame).ok()?;
    Some(frame)
}

impl Asked {
    /// What is asked of a partition.
    pub(crate) fn partition(&self, topic: Uuid, index: i32) -> Option<&FetchPartition> {
        let topic = self.request.topics.iter().find(|found| found.topic_id == topic)?;
        topic.partitions.iter().find(|found| found.partition == index)
    }

    /// The offset that is asked for.
    pub(crate) fn offset(&self, topic: Uuid, index: i32) -> i64 {
        self.partition(topic, index).expect("it is asked for").fetch_offset
    }

    /// A sound frame, its length included, that says this of the topic's partitions.
    pub(crate) fn frame(&self, topic: Uuid, partitions: Vec<PartitionData>) -> Vec<u8> {
        self.frame_of(&FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic_id: topic,
                partitions,
                ..Default::default()
            }],
            ..Default::default()
        })
    }

    /// A sound frame of this answer.
    pub(crate) fn frame_of(&self, response: &FetchResponse) -> Vec<u8> {
        let version = FetchRequest::VERSION_MAX;
        let encoded = encode_response(ApiKey::Fetch, version, self.correlation_id, response);
        let encoded = encoded.expect("encodes");
        assert_eq!(encoded.gaps, [], "records are inline");
        encoded.bytes.to_vec()
    }

    /// Answers with a sound frame.
    pub(crate) fn answer(self, topic: Uuid, partitions: Vec<PartitionData>) {
        let frame = self.frame(topic, partitions);
        self.answer_bytes(frame);
    }

    /// Answers with these bytes.
    pub(crate) fn answer_bytes(self, bytes: Vec<u8>) {
        // A connection that has ended meanwhile is the follower's affair.
        let _ = self.answer.send(bytes);
    }
}
