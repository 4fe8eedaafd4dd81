// franz-go: Go; negotiates the newest versions, consumes by topic id, validates its positions by leader epoch.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	deadline   = 45 * time.Second
	partitions = 4
)

var (
	bootstrap         string
	replicationFactor int16 = 1
	admin             *kadm.Client
	failed            bool
)

func main() {
	bootstrap = os.Getenv("KLAMM_BOOTSTRAP")
	if len(os.Args) > 1 {
		bootstrap = os.Args[1]
	}
	if factor := os.Getenv("KLAMM_REPLICATION_FACTOR"); factor != "" {
		parsed, err := strconv.ParseInt(factor, 10, 16)
		if err != nil {
			panic(err)
		}
		replicationFactor = int16(parsed)
	}
	client, err := kgo.NewClient(broker()...)
	if err != nil {
		panic(err)
	}
	admin = kadm.NewClient(client)
	onTopic("create, list and delete a topic", createsAndLists)
	for _, each := range []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
	} {
		onTopic("publish and read back, "+each.name, func(ctx context.Context, topic string) error {
			return publishesAndReads(ctx, topic, each.codec)
		})
	}
	onTopic("group of two, eager: join, share, leave, take over, come back", func(ctx context.Context, topic string) error {
		return groupOfTwo(ctx, topic, kgo.RangeBalancer())
	})
	onTopic("group of two, cooperative: join, share, leave, take over, come back", func(ctx context.Context, topic string) error {
		return groupOfTwo(ctx, topic, kgo.CooperativeStickyBalancer())
	})
	onTopic("seek to an offset", seeksToOffset)
	onTopic("seek to a timestamp", seeksToTimestamp)
	if failed {
		os.Exit(1)
	}
}

// broker is what all clients have in common. Metadata is asked for again after 100 ms instead of 5 s.
func broker() []kgo.Opt {
	return []kgo.Opt{kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.MetadataMinAge(100 * time.Millisecond)}
}

// onTopic runs a case on a topic of its own and reports it in the form that the runner reads.
func onTopic(name string, body func(context.Context, string) error) {
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(context.Background(), deadline, errors.New("the case's 45 s are over"))
	defer cancel()
	topic := "foreign-" + rand.Text()
	_, err := admin.CreateTopic(ctx, partitions, replicationFactor, nil, topic)
	if err == nil {
		err = body(ctx, topic)
	}
	_, _ = admin.DeleteTopics(context.WithoutCancel(ctx), topic)
	seconds := time.Since(started).Seconds()
	if err == nil {
		fmt.Printf("ok\t%s\t%.2f\n", name, seconds)
		return
	}
	failed = true
	fmt.Printf("FAILED\t%s\t%.2f\t%s\n", name, seconds, strings.Join(strings.Fields(err.Error()), " "))
}

func same[T any](what string, found, wanted T) error {
	if f, w := fmt.Sprint(found), fmt.Sprint(wanted); f != w {
		return fmt.Errorf("%s: found %.300s, wanted %.300s", what, f, w)
	}
	return nil
}

// sample has missing and empty keys and values, every byte, headers of all kinds; 0 to 100,000 bytes; a second apart.
func sample(count int, partitions int32) []*kgo.Record {
	everyByte := make([]byte, 256)
	for index := range everyByte {
		everyByte[index] = byte(index)
	}
	noise := make([]byte, 100_000)
	_, _ = rand.Read(noise)
	keys := [][]byte{nil, {}, []byte("key"), everyByte, []byte("ключ")}
	values := [][]byte{nil, {}, everyByte, bytes.Repeat([]byte("compressible "), 500), noise, {1}}
	headers := [][]kgo.RecordHeader{
		nil, {{Key: "plain", Value: []byte("value")}}, {{Key: "twice", Value: everyByte}, {Key: "twice", Value: []byte{}}},
		{{Key: "none", Value: nil}, {Key: "имя", Value: everyByte}},
	}
	first := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	records := make([]*kgo.Record, count)
	for index := range records {
		records[index] = &kgo.Record{
			Partition: int32(index) % partitions,
			Key:       keys[index%len(keys)],
			Value:     values[index%len(values)],
			Headers:   headers[index%len(headers)],
			Timestamp: first.Add(time.Duration(index) * time.Second),
		}
	}
	return records
}

func publish(ctx context.Context, topic string, records []*kgo.Record, codec kgo.CompressionCodec) error {
	producer, err := kgo.NewClient(append(broker(), kgo.DefaultProduceTopic(topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))...)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.ProduceSync(ctx, records...).FirstErr()
}

// publishEverywhere puts one record into each partition and returns how readers will see them.
func publishEverywhere(ctx context.Context, topic, value string) ([]string, error) {
	var records []*kgo.Record
	var seen []string
	for partition := range int32(partitions) {
		records = append(records, &kgo.Record{Partition: partition, Value: []byte(value)})
		seen = append(seen, fmt.Sprintf("%d %s", partition, value))
	}
	return seen, publish(ctx, topic, records, kgo.NoCompression())
}

// member is a consumer that polls in a goroutine of its own.
type member struct {
	client   *kgo.Client
	mutex    sync.Mutex
	changed  chan struct{} // closed and replaced with every change
	assigned map[int32]bool
	read     []*kgo.Record
	err      error
	done     chan struct{}
}

func consume(options ...kgo.Opt) (*member, error) {
	m := &member{changed: make(chan struct{}), done: make(chan struct{}), assigned: map[int32]bool{}}
	own := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, which map[string][]int32) {
			m.change(func() {
				for _, numbers := range which {
					for _, partition := range numbers {
						if owned {
							m.assigned[partition] = true
						} else {
							delete(m.assigned, partition)
						}
					}
				}
			})
		}
	}
	options = append(append(broker(), kgo.FetchMaxWait(500*time.Millisecond)), options...)
	if slices.ContainsFunc(options, isGroup) {
		options = append(options, kgo.OnPartitionsAssigned(own(true)), kgo.OnPartitionsRevoked(own(false)),
			kgo.OnPartitionsLost(own(false)), kgo.DisableAutoCommit(), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.SessionTimeout(10*time.Second), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	m.client = client
	go m.poll()
	return m, nil
}

func isGroup(option kgo.Opt) bool {
	_, is := option.(kgo.GroupOpt)
	return is
}

func (m *member) poll() {
	defer close(m.done)
	for {
		fetches := m.client.PollFetches(context.Background())
		if fetches.IsClientClosed() {
			return
		}
		m.change(func() {
			m.read = append(m.read, fetches.Records()...)
			m.err = fetches.Err()
		})
	}
}

func (m *member) change(what func()) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	what()
	close(m.changed)
	m.changed = make(chan struct{})
}

// until waits for a state of the member.
func (m *member) until(ctx context.Context, what string, condition func() bool) error {
	for {
		m.mutex.Lock()
		met, changed, err := condition(), m.changed, m.err
		state := fmt.Sprintf("%d records, partitions %v", len(m.read), slices.Sorted(maps.Keys(m.assigned)))
		m.mutex.Unlock()
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", what, err)
		}
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w waiting for %s; it has %s", context.Cause(ctx), what, state)
		}
	}
}

func (m *member) owns(count int) func() bool  { return func() bool { return len(m.assigned) == count } }
func (m *member) reads(count int) func() bool { return func() bool { return len(m.read) >= count } }

// seen is what was read from the record FROM on, in the order of partitions.
func (m *member) seen(from int) []string {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var found []string
	for _, record := range m.read[from:] {
		found = append(found, fmt.Sprintf("%d %s", record.Partition, record.Value))
	}
	slices.Sort(found)
	return found
}

// leave also leaves the group.
func (m *member) leave() {
	m.client.Close()
	<-m.done
}

func createsAndLists(ctx context.Context, topic string) error {
	listed, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if err := same("partitions", len(listed[topic].Partitions), partitions); err != nil {
		return err
	}
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return err
	}
	for {
		listed, err = admin.ListTopics(ctx, topic)
		if err != nil {
			return fmt.Errorf("waiting for the topic to be gone: %w", errors.Join(err, context.Cause(ctx)))
		}
		if errors.Is(listed[topic].Err, kerr.UnknownTopicOrPartition) {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func publishesAndReads(ctx context.Context, topic string, codec kgo.CompressionCodec) error {
	sent := sample(120, partitions)
	if err := publish(ctx, topic, sent, codec); err != nil {
		return err
	}
	m, err := consume(kgo.ConsumeTopics(topic))
	if err != nil {
		return err
	}
	defer m.leave()
	if err := m.until(ctx, "120 records", m.reads(len(sent))); err != nil {
		return err
	}
	for partition := range int32(partitions) {
		of := func(records []*kgo.Record) (found []*kgo.Record) {
			for _, record := range records {
				if record.Partition == partition {
					found = append(found, record)
				}
			}
			return found
		}
		found, wanted := of(m.read), of(sent)
		if err := same(fmt.Sprintf("records of partition %d", partition), len(found), len(wanted)); err != nil {
			return err
		}
		for index := range wanted {
			if err := sameRecord(found[index], wanted[index], int64(index)); err != nil {
				return err
			}
		}
	}
	return nil
}

func sameRecord(found, wanted *kgo.Record, offset int64) error {
	where := fmt.Sprintf(" of record %d of partition %d", offset, wanted.Partition)
	sameBytes := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	switch {
	case found.Offset != offset:
		return fmt.Errorf("offset%s: found %d", where, found.Offset)
	case found.Timestamp.UnixMilli() != wanted.Timestamp.UnixMilli():
		return fmt.Errorf("timestamp%s: found %v, wanted %v", where, found.Timestamp, wanted.Timestamp)
	case !sameBytes(found.Key, wanted.Key):
		return fmt.Errorf("key%s: found %q, wanted %q", where, found.Key, wanted.Key)
	case !sameBytes(found.Value, wanted.Value):
		return fmt.Errorf("value%s differs: %d bytes for %d", where, len(found.Value), len(wanted.Value))
	case !slices.EqualFunc(found.Headers, wanted.Headers, func(a, b kgo.RecordHeader) bool {
		return a.Key == b.Key && sameBytes(a.Value, b.Value)
	}):
		return fmt.Errorf("headers%s: found %v, wanted %v", where, found.Headers, wanted.Headers)
	}
	return nil
}

func groupOfTwo(ctx context.Context, topic string, balancer kgo.GroupBalancer) error {
	group := "group-" + rand.Text()
	join := func() (*member, error) {
		return consume(kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.Balancers(balancer))
	}
	first, err := join()
	if err != nil {
		return err
	}
	if err := first.until(ctx, "all partitions for the first", first.owns(4)); err != nil {
		return err
	}
	second, err := join()
	if err != nil {
		return err
	}
	if err := errors.Join(second.until(ctx, "half for the second", second.owns(2)), first.until(ctx, "half for the first", first.owns(2))); err != nil {
		return err
	}

	shared, err := publishEverywhere(ctx, topic, "shared")
	if err != nil {
		return err
	}
	for _, m := range []*member{first, second} {
		if err := m.until(ctx, "2 records", m.reads(2)); err != nil {
			return err
		}
		if err := m.client.CommitUncommittedOffsets(ctx); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	}
	both := append(first.seen(0), second.seen(0)...)
	slices.Sort(both)
	if err := same("records of both", both, shared); err != nil {
		return err
	}

	second.leave()
	if err := first.until(ctx, "all partitions again", first.owns(4)); err != nil {
		return err
	}
	alone, err := publishEverywhere(ctx, topic, "alone")
	if err != nil {
		return err
	}
	if err := first.until(ctx, "the last records", first.reads(6)); err != nil {
		return err
	}
	if err := same("records after the second left", first.seen(2), alone); err != nil {
		return err
	}
	if err := first.client.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	first.leave()
	return comesBack(ctx, topic, group, join)
}

func comesBack(ctx context.Context, topic, group string, join func() (*member, error)) error {
	away, err := publishEverywhere(ctx, topic, "while away")
	if err != nil {
		return err
	}
	again, err := join()
	if err != nil {
		return err
	}
	if err := again.until(ctx, "the records published meanwhile", again.reads(4)); err != nil {
		return err
	}
	if err := same("records after coming back", again.seen(0), away); err != nil {
		return err
	}
	again.leave()
	committed, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	offset, _ := committed.Lookup(topic, 0)
	if err := same("committed offset of partition 0", offset.At, 2); err != nil {
		return err
	}
	_, err = admin.DeleteGroup(ctx, group)
	return err
}

func seeksToOffset(ctx context.Context, topic string) error {
	sent := sample(30, 1)
	if err := publish(ctx, topic, sent, kgo.NoCompression()); err != nil {
		return err
	}
	for _, start := range []int64{17, 0, 29} {
		if err := firstRecordIs(ctx, topic, kgo.NewOffset().At(start), sent[start], start); err != nil {
			return err
		}
	}
	return nil
}

func firstRecordIs(ctx context.Context, topic string, from kgo.Offset, wanted *kgo.Record, offset int64) error {
	m, err := consume(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: from}}))
	if err != nil {
		return err
	}
	defer m.leave()
	if err := m.until(ctx, "a record", m.reads(1)); err != nil {
		return err
	}
	return sameRecord(m.read[0], wanted, offset)
}

func seeksToTimestamp(ctx context.Context, topic string) error {
	sent := sample(30, 1)
	if err := publish(ctx, topic, sent, kgo.SnappyCompression()); err != nil {
		return err
	}
	asked := sent[12].Timestamp.UnixMilli()
	for _, each := range []struct {
		what         string
		time, wanted int64
	}{
		{"record 12's own time", asked, 12}, {"a little later", asked + 1, 13},
		{"before all", asked - time.Hour.Milliseconds(), 0}, {"after all", time.Now().UnixMilli(), 30},
	} {
		listed, err := admin.ListOffsetsAfterMilli(ctx, each.time, topic)
		if err != nil {
			return err
		}
		offset, _ := listed.Lookup(topic, 0)
		if err := same("offset for "+each.what, offset.Offset, each.wanted); err != nil {
			return err
		}
	}
	return firstRecordIs(ctx, topic, kgo.NewOffset().AfterMilli(asked), sent[12], 12)
}
