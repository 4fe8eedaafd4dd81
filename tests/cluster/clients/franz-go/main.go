// franz-go under load: says, a line a thing, what it did and saw (../../README.md has the lines).
//
//	load produce BOOTSTRAP TOPIC PARTITIONS FIRST_ID idempotent
//	load consume BOOTSTRAP TOPIC GROUP
//
// It ends in order when its standard input ends.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	pause         = 50 * time.Millisecond
	unansweredMax = 200
	commitEvery   = 200 * time.Millisecond
	flush         = 60 * time.Second
)

var padding = " " + strings.Repeat("x", 150)

func main() {
	over, end := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		end()
	}()
	arguments := os.Args[2:]
	if os.Args[1] == "produce" {
		partitions, err := strconv.Atoi(arguments[2])
		must(err)
		first, err := strconv.ParseInt(arguments[3], 10, 64)
		must(err)
		produce(over, arguments[0], arguments[1], int32(partitions), first)
	} else {
		consume(over, arguments[0], arguments[1], arguments[2])
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// say writes a line at once, so that whoever reads it knows when it was said.
func say(what string, words ...any) {
	line := what
	for _, word := range words {
		line += " " + strings.ReplaceAll(fmt.Sprint(word), "\n", " ")
	}
	_, _ = os.Stdout.WriteString(line + "\n")
}

// settings are quick to notice and to try again: what is measured is the broker.
func settings(bootstrap string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.MetadataMaxAge(time.Second), kgo.DialTimeout(time.Second), kgo.RequestTimeoutOverhead(3 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
	}
}

func produce(over context.Context, bootstrap, topic string, partitions int32, next int64) {
	client, err := kgo.NewClient(append(settings(bootstrap), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProduceRequestTimeout(3*time.Second))...)
	must(err)
	unanswered := make([]atomic.Int64, partitions)
	for over.Err() == nil {
		for partition := range partitions {
			if unanswered[partition].Load() >= unansweredMax {
				continue
			}
			id := next
			next++
			unanswered[partition].Add(1)
			say("S", id, partition)
			record := &kgo.Record{Partition: partition, Value: []byte(strconv.FormatInt(id, 10) + padding)}
			client.Produce(context.Background(), record, func(told *kgo.Record, err error) {
				unanswered[partition].Add(-1)
				if err != nil {
					say("F", id, err)
				} else {
					say("A", id, told.Offset)
				}
			})
		}
		time.Sleep(pause)
	}
	ended, cancel := context.WithTimeout(context.Background(), flush)
	defer cancel()
	must(client.Flush(ended))
	client.Close()
}

func consume(over context.Context, bootstrap, topic, group string) {
	client, err := kgo.NewClient(append(settings(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchMaxWait(100*time.Millisecond),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			for _, partition := range assigned[topic] {
				say("M", partition, -1)
			}
		}))...)
	must(err)
	committed := time.Now()
	for over.Err() == nil {
		polling, cancel := context.WithTimeout(over, commitEvery)
		fetches := client.PollFetches(polling)
		cancel()
		fetches.EachError(func(_ string, partition int32, err error) {
			var session *kgo.ErrGroupSession
			switch {
			case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			case errors.As(err, &session):
				// It is told, but the client joins again by itself.
				say("I", err)
			default:
				say("E", "partition", partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			id, _, _ := bytes.Cut(record.Value, []byte(" "))
			say("P", record.Partition, record.Offset, string(id))
		})
		if time.Since(committed) >= commitEvery {
			committed = time.Now()
			commit(over, client, topic)
		}
		client.AllowRebalance()
	}
	client.Close()
}

func commit(over context.Context, client *kgo.Client, topic string) {
	offsets := client.UncommittedOffsets()
	if len(offsets[topic]) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(over, 3*time.Second)
	defer cancel()
	client.CommitOffsetsSync(limited, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if err != nil {
			say("I", "commit:", err)
			return
		}
		for _, told := range response.Topics {
			for _, partition := range told.Partitions {
				if err := kerr.ErrorForCode(partition.ErrorCode); err != nil {
					say("I", "commit:", err)
				} else if at, ok := offsets[told.Topic][partition.Partition]; ok {
					say("C", partition.Partition, at.Offset)
				}
			}
		}
	})
}
