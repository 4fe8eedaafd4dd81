//! What a case has in hand.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use bytes::Bytes;
use klamm_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use klamm_protocol::messages::fetch::FetchResponse;
use klamm_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use klamm_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use klamm_protocol::{Records, Request, frame};
use uuid::Uuid;

use crate::batches;
use crate::compare::Entry;
use crate::connection::{Connection, Received};
use crate::tree::{Symbols, flatten};

/// How long a broker may take until what it has accepted shows.
const SETTLED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// What stops a case that cannot go on; it is compared like an answer.
pub(crate) type Step<T = ()> = Result<T, String>;

pub(crate) struct Case {
    address: String,
    /// Unlike every other case's.
    pub(crate) name: String,
    /// Of the API that the case is about.
    pub(crate) version: i16,
    connection: Connection,
    symbols: Symbols,
    entries: Vec<Entry>,
}

impl Case {
    pub(crate) fn start(address: &str, name: &str, version: i16) -> Result<Case, String> {
        Ok(Case {
            address: address.to_owned(),
            // The same brokers may be compared again.
            name: format!("o{}.{}", std::process::id(), name.replace([' ', '/'], "-")),
            version,
            connection: Connection::open(address)?,
            symbols: Symbols::default(),
            entries: Vec::new(),
        })
    }

    pub(crate) fn finish(mut self, result: Step) -> Vec<Entry> {
        if let Err(problem) = result {
            self.note("stopped", "outcome", problem);
        }
        self.entries
    }

    /// A name of this case's own.
    pub(crate) fn named(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    /// A further connection.
    pub(crate) fn connect(&self) -> Step<Connection> {
        Connection::open(&self.address)
    }

    /// Sends at the case's version and writes the answer down. `None` where the version cannot carry
    /// the request or there is no answer.
    pub(crate) fn ask<R>(&mut self, step: &str, request: &R) -> Option<R::Response>
    where
        R: Request,
        R::Response: Debug + Any,
    {
        self.ask_at(self.version, step, request)
    }

    /// As [`Case::ask`], where one of the brokers is known not to answer.
    pub(crate) fn ask_owed<R>(&mut self, step: &str, request: &R)
    where
        R: Request,
        R::Response: Debug + Any,
    {
        if let Some(id) = self.connection.send(self.version, request) {
            let received = self.connection.receive_owed();
            self.write_down::<R>(self.version, step, id, received);
        }
    }

    /// As [`Case::ask`], at another API's version.
    pub(crate) fn ask_at<R>(&mut self, version: i16, step: &str, request: &R) -> Option<R::Response>
    where
        R: Request,
        R::Response: Debug + Any,
    {
        let id = self.connection.send(version, request)?;
        let received = self.connection.receive();
        self.write_down::<R>(version, step, id, received)
    }

    /// Repeats the request until `settled`; only the last answer is written down.
    pub(crate) fn ask_until<R>(
        &mut self,
        step: &str,
        request: &R,
        settled: impl Fn(&R::Response) -> bool,
    ) -> Option<R::Response>
    where
        R: Request,
        R::Response: Debug + Any,
    {
        let deadline = now() + SETTLED;
        loop {
            let id = self.connection.send(self.version, request)?;
            let received = self.connection.receive();
            let done = match &received {
                Received::Frame(bytes) => frame::decode_response::<R>(self.version, bytes.clone())
                    .is_ok_and(|(_, response)| settled(&response)),
                _ => true,
            };
            if done || now() > deadline {
                return self.write_down::<R>(self.version, step, id, received);
            }
            pause();
        }
    }

    /// Sends without waiting; [`Case::receive_on`] takes the answer.
    pub(crate) fn send_on<R: Request>(
        &self,
        connection: &mut Connection,
        version: i16,
        request: &R,
    ) -> Option<i32> {
        connection.send(version, request)
    }

    pub(crate) fn receive_on<R>(
        &mut self,
        connection: &mut Connection,
        version: i16,
        step: &str,
        id: i32,
    ) -> Option<R::Response>
    where
        R: Request,
        R::Response: Debug + Any,
    {
        let received = connection.receive();
        self.write_down::<R>(version, step, id, received)
    }

    /// Sends what should not be answered.
    pub(crate) fn expect_silence<R: Request>(&mut self, step: &str, request: &R) {
        if self.connection.send(self.version, request).is_none() {
            return;
        }
        let outcome = match self.connection.receive_briefly() {
            Received::Frame(_) => "answered",
            Received::Closed => "closed",
            Received::Nothing => "silent",
        };
        let label = label::<R>(self.version, step);
        self.note(&label, "outcome", outcome.to_owned());
        if outcome == "closed" {
            self.reconnect();
        }
    }

    /// Sends bytes as they are and notes whether anything came back.
    pub(crate) fn raw(&mut self, step: &str, bytes: impl FnOnce(&mut Connection) -> Vec<u8>) {
        let bytes = bytes(&mut self.connection);
        self.connection.send_bytes(&bytes);
        let outcome = match self.connection.receive_briefly() {
            Received::Frame(body) => format!("{:?}", body.get(4..).unwrap_or_default()),
            Received::Closed => "closed".to_owned(),
            Received::Nothing => "silent".to_owned(),
        };
        self.note(step, "outcome", outcome);
        self.reconnect();
    }

    /// Sends without writing anything down; for preparations.
    pub(crate) fn quietly<R>(&mut self, version: i16, request: &R) -> Step<R::Response>
    where
        R: Request,
    {
        let id = self
            .connection
            .send(version, request)
            .ok_or_else(|| format!("{:?} v{version} cannot be written", R::KEY))?;
        match self.connection.receive() {
            Received::Frame(bytes) => match frame::decode_response::<R>(version, bytes) {
                Ok((got, response)) if got == id => Ok(response),
                Ok((got, _)) => Err(format!("answer {got} to request {id}")),
                Err(error) => Err(format!("{:?} v{version}: {error}", R::KEY)),
            },
            Received::Closed => Err(format!("{:?} v{version}: closed", R::KEY)),
            Received::Nothing => Err(format!("{:?} v{version}: no answer", R::KEY)),
        }
    }

    /// Writes a fact down.
    pub(crate) fn note(&mut self, step: &str, path: &str, value: String) {
        let values = BTreeMap::from([(path.to_owned(), value)]);
        self.entries.push(Entry { label: step.replace(' ', "-"), values });
    }

    /// A topic of this case's own, with its leaders elected.
    pub(crate) fn topic(&mut self, suffix: &str, partitions: i32) -> Step<(String, Uuid)> {
        self.topic_with(suffix, partitions, &[])
    }

    /// As [`Case::topic`], with settings.
    pub(crate) fn topic_with(
        &mut self,
        suffix: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Step<(String, Uuid)> {
        let name = self.named(suffix);
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        });
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..Default::default() };
        let response = self.quietly(7, &request)?;
        let created = &response.topics[0];
        if created.error_code != 0 {
            return Err(format!("{name}: {} {:?}", created.error_code, created.error_message));
        }
        let id = created.topic_id;
        self.await_leaders(&name)?;
        Ok((name, id))
    }

    /// Waits until every partition of a topic has a leader.
    pub(crate) fn await_leaders(&mut self, name: &str) -> Step {
        let topic = MetadataRequestTopic { name: Some(name.to_owned()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let deadline = now() + SETTLED;
        while now() < deadline {
            let response = self.quietly(12, &request)?;
            let ready = response.topics.iter().all(|topic| {
                topic.error_code == 0
                    && !topic.partitions.is_empty()
                    && topic.partitions.iter().all(|p| p.error_code == 0 && p.leader_id >= 0)
            });
            if ready && self.leaders_answer(name, response.topics[0].partitions.len())? {
                return Ok(());
            }
            pause();
        }
        Err(format!("{name} has no leaders"))
    }

    /// Kafka's metadata shows a leader a moment before the leader knows.
    fn leaders_answer(&mut self, name: &str, partitions: usize) -> Step<bool> {
        let partitions = (0..partitions).map(|index| ListOffsetsPartition {
            partition_index: index as i32,
            current_leader_epoch: -1,
            timestamp: -1,
        });
        let topic = ListOffsetsTopic { name: name.to_owned(), partitions: partitions.collect() };
        let request =
            ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = self.quietly(6, &request)?;
        let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(answers.all(|partition| partition.error_code == 0))
    }

    fn write_down<R>(
        &mut self,
        version: i16,
        step: &str,
        id: i32,
        received: Received,
    ) -> Option<R::Response>
    where
        R: Request,
        R::Response: Debug + Any,
    {
        let label = label::<R>(version, step);
        let problem = match received {
            Received::Frame(bytes) => match frame::decode_response::<R>(version, bytes) {
                Ok((got, response)) if got == id => {
                    let shown = show(&response);
                    let values = flatten(&shown, &mut self.symbols);
                    self.entries.push(Entry { label, values });
                    return Some(response);
                }
                Ok((got, _)) => format!("answer {} too far", got - id),
                Err(error) => format!("unreadable: {error}"),
            },
            Received::Closed => "closed".to_owned(),
            Received::Nothing => "no answer".to_owned(),
        };
        self.note(&label, "outcome", problem);
        self.reconnect();
        None
    }

    fn reconnect(&mut self) {
        if let Ok(connection) = Connection::open(&self.address) {
            self.connection = connection;
        }
    }
}

fn label<R: Request>(version: i16, step: &str) -> String {
    format!("{:?}.v{version}.{}", R::KEY, step.replace(' ', "-"))
}

/// The Debug form, with record batches opened.
fn show<T: Debug + Any>(response: &T) -> String {
    let Some(fetched) = (response as &dyn Any).downcast_ref::<FetchResponse>() else {
        return format!("{response:#?}");
    };
    let mut fetched = fetched.clone();
    let mut opened = Vec::new();
    for topic in &mut fetched.responses {
        for partition in &mut topic.partitions {
            let records = std::mem::take(&mut partition.records);
            let Records::Inline(bytes) = records else { continue };
            partition.records = Records::External { len: bytes.len() as u32 };
            let name = format!("{}{}-{}", topic.topic, topic.topic_id, partition.partition_index);
            opened.push(batches::Opened { name, batches: batches::open(bytes) });
        }
    }
    format!("{:#?}", Shown { response: fetched, opened })
}

#[derive(Debug)]
#[expect(dead_code, reason = "read through Debug")]
struct Shown {
    response: FetchResponse,
    opened: Vec<batches::Opened>,
}

/// The wall's idea of now.
#[expect(clippy::disallowed_methods, reason = "a test tool against real brokers")]
fn now() -> Instant {
    Instant::now()
}

/// Lets a broker catch up with itself.
#[expect(clippy::disallowed_methods, reason = "a test tool against real brokers")]
pub(crate) fn pause() {
    std::thread::sleep(PAUSE);
}

/// Some bytes.
pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
