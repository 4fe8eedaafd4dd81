// What franz-go sees of one broker's logs, as JSON lines: storage HOST:PORT [GROUP OF CASES…].
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	baseMs  = int64(1_600_000_000_000)
	lateMs  = int64(4_000_000_000_000)
	groupMs = int64(10_000)
	hourMs  = "3600000"
)

var (
	codecs = []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
	}
	seeks = []int64{0, 1, 17, 36, 37, 38, 99, 100, 1000}
	times = []int64{0, baseMs, baseMs + 1, baseMs + 70_000, baseMs + 70_015, baseMs + 190_040, baseMs + 190_041, lateMs}
)

func main() {
	b := connect(os.Args[1])
	asked := os.Args[2:]
	for _, group := range []struct {
		name  string
		cases []func(*broker)
	}{
		{"retained", []func(*broker){prefix, byTime, bySize, stamped, refused}},
		{"compacted", []func(*broker){compacted, compactedAndDeleted}},
	} {
		if len(asked) > 0 && !slices.Contains(asked, group.name) {
			continue
		}
		for _, each := range group.cases {
			each(b)
		}
	}
}

// records are five: one batch. The third is older than the second. Keys that come once leave records between holes.
func records(topic string, number, base int64, keyless bool) []*kgo.Record {
	var made []*kgo.Record
	for turn := range int64(5) {
		i := number*5 + turn
		record := &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(base + number*groupMs + turn*10)}
		if turn == 2 {
			record.Timestamp = record.Timestamp.Add(-500 * time.Millisecond)
		}
		if !keyless || i%11 != 0 {
			record.Key = []byte(key(i))
		}
		if i%5 != 3 {
			record.Value = fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", int(i%3*100)))
		}
		if i%2 == 1 {
			record.Headers = []kgo.RecordHeader{
				{Key: "one", Value: fmt.Appendf(nil, "header-%d", i)}, {Key: "one"}, {Key: "empty", Value: []byte{}},
			}
		}
		made = append(made, record)
	}
	return made
}

func key(i int64) string {
	if i%10 == 7 {
		return fmt.Sprintf("only-%d", i)
	}
	return fmt.Sprintf("key-%d", i%7)
}

func fill(b *broker, topic string, groups, base int64, keyless bool) {
	for number := range groups {
		b.produce(records(topic, number, base, keyless), int(number)%len(codecs))
	}
}

func prefix(b *broker) {
	const topic = "go-prefix"
	b.suite = "prefix"
	b.create(topic, map[string]string{"retention.ms": "-1", "segment.ms": "5000"})
	fill(b, topic, 20, baseMs, true)
	b.configs(topic)
	b.observe(topic, times...)
	b.deleteRecords(topic, 37)
	b.observe(topic, times...)
	b.commits(topic, 12)
	for _, refused := range []int64{20, 101, -2} {
		b.deleteRecords(topic, refused)
	}
	b.suite = "emptied"
	b.deleteRecords(topic, -1)
	b.observe(topic, times...)
	b.suite = "refilled"
	b.produce(records(topic, 20, baseMs, true), 0)
	b.observe(topic, times...)
}

func byTime(b *broker) {
	const topic = "go-by-time"
	b.suite = "by-time"
	forever := strconv.FormatInt(1<<63-1, 10)
	b.create(topic, map[string]string{"retention.ms": "-1", "segment.ms": "5000", "message.timestamp.after.max.ms": forever})
	fill(b, topic, 8, baseMs, true)
	fill(b, topic, 2, lateMs, true)
	b.alter(topic, "retention.ms", "86400000")
	b.awaitStart(topic, 40)
	b.observe(topic, append(slices.Clone(times), lateMs+10_000, lateMs+20_000)...)
}

func bySize(b *broker) {
	const topic = "go-by-size"
	b.suite = "by-size"
	b.create(topic, map[string]string{"retention.ms": "-1", "segment.ms": "5000"})
	fill(b, topic, 10, baseMs, true)
	b.alter(topic, "retention.bytes", "1")
	b.awaitStart(topic, 45)
	b.observe(topic, times...)
}

func stamped(b *broker) {
	const topic = "go-stamped"
	b.suite = "stamped"
	b.create(topic, map[string]string{"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"})
	for number := range int64(5) {
		b.produce(records(topic, number, baseMs, true), int(number))
		// No two batches get the same stamp, however fast the broker is: the newest one is the last.
		for last := time.Now().UnixMilli(); time.Now().UnixMilli() == last; {
			time.Sleep(time.Millisecond)
		}
	}
	b.configs(topic)
	b.observe(topic, 0, baseMs, lateMs)
	b.deleteRecords(topic, 7)
	b.observe(topic, 0, baseMs, lateMs)
}

func refused(b *broker) {
	const topic, keyed = "go-refused", "go-keyed"
	b.suite = "refused"
	b.create(topic, map[string]string{
		"message.timestamp.before.max.ms": hourMs, "message.timestamp.after.max.ms": hourMs, "max.message.bytes": "2000",
	})
	b.produce(records(topic, 0, baseMs, true), 0)
	b.produce(records(topic, 0, lateMs, true), 0)
	b.produce([]*kgo.Record{{Topic: topic, Key: []byte("key"), Value: []byte(strings.Repeat("x", 3_000)), Timestamp: time.Now()}}, 0)
	b.create(keyed, map[string]string{"cleanup.policy": "compact"})
	for codec := range codecs {
		// All without a key: the first records to a new topic may go as a batch of their own.
		keyless := records(keyed, 0, baseMs, true)
		for _, record := range keyless {
			record.Key = nil
		}
		b.produce(keyless, codec)
	}
	b.observe(keyed)
	b.observe(topic)
}

func compacted(b *broker) {
	b.suite = "compacted"
	compact(b, "compact")
}

func compactedAndDeleted(b *broker) {
	b.suite = "compacted-and-deleted"
	compact(b, "compact,delete")
}

func compact(b *broker, policy string) {
	topic := "go-" + strings.ReplaceAll(policy, ",", "-")
	b.create(topic, map[string]string{
		"cleanup.policy": policy, "retention.ms": "-1", "segment.ms": "5000", "min.cleanable.dirty.ratio": "0",
	})
	fill(b, topic, 20, baseMs, false)
	// The last group is the active segment, which is not compacted and does not take part.
	newest := map[string]int64{}
	for i := range int64(95) {
		newest[key(i)] = i
	}
	left := append(slices.Sorted(maps.Values(newest)), 95, 96, 97, 98, 99)
	b.awaitRecords(topic, left)
	b.configs(topic)
	b.observe(topic, times...)
	b.commits(topic, 12)
	b.deleteRecords(topic, 91)
	b.observe(topic, times...)
}

// must ends the program: the broker did not do what every case needs.
func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func within() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), deadline, errors.New("the step's 60 s are over"))
}

func connect(bootstrap string) *broker {
	b := &broker{bootstrap: bootstrap, producers: map[int]*kgo.Client{}}
	b.admin = kadm.NewClient(b.client())
	return b
}
