package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	deadline = 60 * time.Second
	between  = 100 * time.Millisecond
	fetchKey = 1
	// One fetch may be out of range, one may have been on its way; the others are of the place where the client then is.
	settled = 4
)

var keys = []string{
	"cleanup.policy", "retention.ms", "retention.bytes", "segment.ms", "min.cleanable.dirty.ratio", "delete.retention.ms",
	"message.timestamp.type", "message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "max.message.bytes",
}

// broker is one broker and the case that is being run against it.
type broker struct {
	bootstrap string
	admin     *kadm.Client
	producers map[int]*kgo.Client
	suite     string
}

type fields = map[string]any

func (b *broker) say(step string, line fields) {
	line["case"], line["step"] = b.suite, step
	fmt.Println(string(must(json.Marshal(line))))
}

func (b *broker) client(more ...kgo.Opt) *kgo.Client {
	common := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(b.bootstrap, ",")...), kgo.MetadataMinAge(between), kgo.FetchMaxWait(50 * time.Millisecond),
	}
	return must(kgo.NewClient(append(common, more...)...))
}

// As many replicas as the broker gives: one, or three in a cluster.
const byDefault = -1

func (b *broker) create(topic string, settings map[string]string) {
	ctx, cancel := within()
	defer cancel()
	configs := map[string]*string{}
	for name, value := range settings {
		configs[name] = &value
	}
	must(b.admin.CreateTopic(ctx, 1, byDefault, configs, topic))
}

func (b *broker) alter(topic, key, value string) {
	ctx, cancel := within()
	defer cancel()
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}
	altered := must(must(b.admin.AlterTopicConfigs(ctx, change, topic)).On(topic, nil))
	must(altered, altered.Err)
}

func (b *broker) deleteRecords(topic string, offset int64) {
	ctx, cancel := within()
	defer cancel()
	asked := kadm.Offsets{}
	asked.AddOffset(topic, 0, offset, -1)
	found := must(b.admin.DeleteRecords(ctx, asked))[topic][0]
	b.say("delete-records", fields{"before": offset, "low-watermark": found.LowWatermark, "error": name(found.Err)})
}

// produce sends one batch and says every answer.
func (b *broker) produce(records []*kgo.Record, codec int) {
	ctx, cancel := within()
	defer cancel()
	producer := b.producers[codec]
	if producer == nil {
		producer = b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[codec].codec),
			kgo.ManualFlushing())
		b.producers[codec] = producer
	}
	answers := make([]fields, len(records))
	for index, record := range records {
		producer.Produce(ctx, record, func(record *kgo.Record, err error) {
			if err != nil {
				answers[index] = fields{"error": name(err)}
				return
			}
			answers[index] = fields{
				"offset": record.Offset, "timestamp": record.Timestamp.UnixMilli(), "type": record.Attrs.TimestampType(),
			}
		})
	}
	must(0, producer.Flush(ctx))
	b.say("produced", fields{"codec": codecs[codec].name, "answers": answers})
}

// listed is the one partition of an answer to ListOffsets.
func listed(answer kadm.ListedOffsets, err error) kadm.ListedOffset {
	for _, partitions := range must(answer, err) {
		return must(partitions[0], partitions[0].Err)
	}
	return must(kadm.ListedOffset{}, errors.New("ListOffsets left the topic out"))
}

func (b *broker) bounds(ctx context.Context, topic string) (low, high int64) {
	return listed(b.admin.ListStartOffsets(ctx, topic)).Offset, listed(b.admin.ListEndOffsets(ctx, topic)).Offset
}

// awaitStart waits for the earliest offset; how it went is compared as well.
func (b *broker) awaitStart(topic string, offset int64) {
	ctx, cancel := within()
	defer cancel()
	low, high := b.bounds(ctx, topic)
	for until := time.Now().Add(deadline / 2); low != offset && time.Now().Before(until); time.Sleep(between) {
		low, high = b.bounds(ctx, topic)
	}
	b.say("start", fields{"low": low, "high": high})
}

// awaitRecords waits until exactly these records are left.
func (b *broker) awaitRecords(topic string, offsets []int64) {
	var found []int64
	for until := time.Now().Add(deadline); !slices.Equal(found, offsets) && time.Now().Before(until); time.Sleep(between) {
		found = nil
		for _, record := range b.read(topic) {
			found = append(found, record.Offset)
		}
	}
	b.say("left", fields{"offsets": found})
}

func (b *broker) observe(topic string, times ...int64) {
	ctx, cancel := within()
	defer cancel()
	low, high := b.bounds(ctx, topic)
	b.say("bounds", fields{"low": low, "high": high})
	for _, record := range b.read(topic) {
		headers := [][]any{}
		for _, header := range record.Headers {
			headers = append(headers, []any{header.Key, text(header.Value)})
		}
		b.say("record", fields{
			"offset": record.Offset, "key": text(record.Key), "value": text(record.Value), "headers": headers,
			"timestamp": record.Timestamp.UnixMilli(), "type": record.Attrs.TimestampType(), "leader-epoch": record.LeaderEpoch,
			"compression": record.Attrs.CompressionType(), "producer-epoch": record.ProducerEpoch,
		})
	}
	// Kafka finds nothing by an old time until it has removed the segments of a deleted prefix.
	for low < high && listed(b.admin.ListOffsetsAfterMilli(ctx, 0, topic)).Timestamp < 0 {
		time.Sleep(between)
	}
	tell := func(step string, asked any, found kadm.ListedOffset) {
		b.say(step, fields{
			"asked": asked, "offset": found.Offset, "timestamp": found.Timestamp, "leader-epoch": found.LeaderEpoch,
		})
	}
	for _, asked := range times {
		tell("offset-for-time", asked, listed(b.admin.ListOffsetsAfterMilli(ctx, asked, topic)))
	}
	tell("list-offsets.earliest", nil, listed(b.admin.ListStartOffsets(ctx, topic)))
	tell("list-offsets.latest", nil, listed(b.admin.ListEndOffsets(ctx, topic)))
	tell("list-offsets.committed", nil, listed(b.admin.ListCommittedOffsets(ctx, topic)))
	tell("list-offsets.max", nil, listed(b.admin.ListMaxTimestampOffsets(ctx, topic)))
	for _, reset := range []struct {
		name   string
		offset kgo.Offset
	}{
		{"earliest", kgo.NewOffset().AtStart()}, {"latest", kgo.NewOffset().AtEnd()}, {"none", kgo.NoResetOffset()},
	} {
		for _, offset := range seeks {
			b.seek(topic, reset.name, reset.offset, offset)
		}
	}
}

// answered counts the fetches that a client has had answers to.
type answered struct {
	fetches atomic.Int32
	enough  context.CancelFunc
}

func (a *answered) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == fetchKey && e2e.Err() == nil && a.fetches.Add(1) == settled {
		a.enough()
	}
}

// seek ends with a record, with an error or with fetches that bring nothing.
func (b *broker) seek(topic, reset string, fallback kgo.Offset, offset int64) {
	ctx, cancel := within()
	defer cancel()
	seen := &answered{enough: cancel}
	consumer := b.client(kgo.WithHooks(seen), kgo.ConsumeResetOffset(fallback),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(offset)}}))
	defer consumer.Close()
	line := fields{"reset": reset, "offset": offset, "found": nil, "error": nil, "log-start": nil, "high-watermark": nil, "stable": nil}
	consumer.PollFetches(ctx).EachPartition(func(found kgo.FetchTopicPartition) {
		if len(found.Records) > 0 {
			line["found"], line["log-start"] = found.Records[0].Offset, found.LogStartOffset
			line["high-watermark"], line["stable"] = found.HighWatermark, found.LastStableOffset
		} else if !errors.Is(found.Err, context.Canceled) {
			line["error"] = name(found.Err)
		}
	})
	b.say("seek", line)
}

// commits keeps a commit inside what is deleted or compacted away; the group goes on where records are.
func (b *broker) commits(topic string, offset int64) {
	ctx, cancel := within()
	defer cancel()
	place := kadm.Offsets{}
	place.Add(kadm.Offset{Topic: topic, At: offset, LeaderEpoch: 0, Metadata: "kept"})
	must(0, b.admin.CommitAllOffsets(ctx, topic, place))
	kept, _ := must(b.admin.FetchOffsets(ctx, topic)).Lookup(topic, 0)
	b.say("committed", fields{
		"offset": kept.At, "metadata": kept.Metadata, "leader-epoch": kept.LeaderEpoch, "error": name(kept.Err),
	})
	member := b.client(kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer member.Close()
	fetches := member.PollFetches(ctx)
	must(0, fetches.Err())
	b.say("goes-on", fields{"offset": fetches.Records()[0].Offset})
}

func (b *broker) configs(topic string) {
	ctx, cancel := within()
	defer cancel()
	found := must(must(b.admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil))
	for _, key := range keys {
		at := slices.IndexFunc(found.Configs, func(each kadm.Config) bool { return each.Key == key })
		if at < 0 {
			b.say("config", fields{"key": key, "value": nil})
			continue
		}
		entry, synonyms := found.Configs[at], [][]any{}
		for _, each := range entry.Synonyms {
			synonyms = append(synonyms, []any{each.Key, each.Value, each.Source.String()})
		}
		b.say("config", fields{
			"key": key, "value": entry.Value, "source": entry.Source.String(), "sensitive": entry.Sensitive, "synonyms": synonyms,
		})
	}
}

// read gives all records up to the end of the log, across whatever holes there are.
func (b *broker) read(topic string) []*kgo.Record {
	ctx, cancel := within()
	defer cancel()
	low, high := b.bounds(ctx, topic)
	if low == high {
		return nil
	}
	consumer := b.client(kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
	defer consumer.Close()
	var found []*kgo.Record
	for len(found) == 0 || found[len(found)-1].Offset < high-1 {
		fetches := consumer.PollFetches(ctx)
		must(0, fetches.Err())
		found = append(found, fetches.Records()...)
	}
	return found
}

// name is the protocol's name of an error.
func name(err error) any {
	if err == nil {
		return nil
	}
	if known, is := errors.AsType[*kerr.Error](err); is {
		return known.Message
	}
	return err.Error()
}

func text(value []byte) *string {
	if value == nil {
		return nil
	}
	found := string(value)
	return &found
}
