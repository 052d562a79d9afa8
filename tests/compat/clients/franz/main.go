// franz-go as a client under test: see harness/process.py for the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const timeout = 30 * time.Second

type header struct {
	name  string
	value []byte
}

// A header is an array of two in the protocol: its name, and its bytes in base64 or null.
func (h header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.name, h.value}) }

func (h *header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&h.name, &h.value})
}

type record struct {
	Partition int32    `json:"partition"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

type command struct {
	Do         string   `json:"do"`
	Partitions int32    `json:"partitions"`
	Codec      string   `json:"codec"`
	Records    []record `json:"records"`
}

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

var output struct {
	sync.Mutex
	*json.Encoder
}

func say(event any) {
	output.Lock()
	defer output.Unlock()
	must(output.Encode(event))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	logger := kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap), kgo.WithLogger(logger))...)
	must(err)
	return made
}

// commands reads stdin until `close` or its end, which is a `close` too.
func commands() <-chan command {
	commands := make(chan command)
	go func() {
		input := json.NewDecoder(bufio.NewReader(os.Stdin))
		for {
			var next command
			if input.Decode(&next) != nil {
				next = command{Do: "close"}
			}
			commands <- next
			if next.Do == "close" {
				return
			}
		}
	}()
	return commands
}

func produce(bootstrap, topic string) {
	producers := map[string]*kgo.Client{}
	for command := range commands() {
		switch command.Do {
		case "close":
			for _, producer := range producers {
				producer.Close()
			}
			return
		case "create":
			admin := client(bootstrap)
			_, err := kadm.NewClient(admin).CreateTopic(context.Background(), command.Partitions, 1, nil, topic)
			must(err)
			admin.Close()
			say(map[string]any{"event": "created"})
		case "produce":
			producer, found := producers[command.Codec]
			if !found {
				producer = client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()),
					kgo.ProducerBatchCompression(codecs[command.Codec]), kgo.ProducerLinger(5*time.Millisecond))
				producers[command.Codec] = producer
			}
			say(map[string]any{"event": "produced", "offsets": send(producer, topic, command.Records)})
		}
	}
}

func send(producer *kgo.Client, topic string, records []record) []int64 {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var sent []*kgo.Record
	for _, r := range records {
		one := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: h.name, Value: h.value})
		}
		sent = append(sent, one)
	}
	must(producer.ProduceSync(ctx, sent...).FirstErr())
	offsets := make([]int64, len(sent))
	for i, one := range sent {
		offsets[i] = one.Offset
	}
	return offsets
}

// member is one consumer: franz-go's default assignor is cooperative, so its assignment changes by what is added and taken.
type member struct {
	topic      string
	assignment map[int32]bool
	last       map[int32]*kgo.Record
}

func (m *member) change(added, taken map[string][]int32) {
	for _, partition := range added[m.topic] {
		m.assignment[partition] = true
	}
	for _, partition := range taken[m.topic] {
		delete(m.assignment, partition)
	}
	partitions := []int32{}
	for partition := range m.assignment {
		partitions = append(partitions, partition)
	}
	say(map[string]any{"event": "assigned", "partitions": partitions})
}

func consume(bootstrap, topic, group string) {
	m := &member{topic, map[int32]bool{}, map[int32]*kgo.Record{}}
	// Rebalances are blocked while a poll is worked on, so the callbacks and the loop never run at once.
	consumer := client(bootstrap, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300*time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { m.change(added, nil) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.change(nil, taken) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.change(nil, taken) }))
	commands := commands()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := consumer.PollFetches(ctx)
		cancel()
		fetches.EachError(func(_ string, partition int32, err error) {
			if err != context.DeadlineExceeded {
				fmt.Fprintln(os.Stderr, "partition", partition, err)
			}
		})
		fetches.EachRecord(m.tell)
		select {
		case command := <-commands:
			if command.Do == "close" {
				consumer.CloseAllowingRebalance()
				return
			}
			m.commit(consumer, group)
		default:
		}
		consumer.AllowRebalance()
	}
}

func (m *member) tell(r *kgo.Record) {
	m.last[r.Partition] = r
	headers := []header{}
	for _, h := range r.Headers {
		headers = append(headers, header{h.Key, h.Value})
	}
	say(struct {
		Event  string `json:"event"`
		Offset int64  `json:"offset"`
		record
	}{"record", r.Offset, record{r.Partition, r.Key, r.Value, headers, r.Timestamp.UnixMilli()}})
}

func (m *member) commit(consumer *kgo.Client, group string) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var read []*kgo.Record
	for partition := range m.assignment {
		if last, found := m.last[partition]; found {
			read = append(read, last)
		}
	}
	must(consumer.CommitRecords(ctx, read...))
	answer, err := kadm.NewClient(consumer).FetchOffsets(ctx, group)
	must(err)
	offsets := map[int32]int64{}
	answer.Each(func(offset kadm.OffsetResponse) {
		must(offset.Err)
		if m.assignment[offset.Partition] {
			offsets[offset.Partition] = offset.At
		}
	})
	say(map[string]any{"event": "committed", "offsets": offsets})
}

func main() {
	output.Encoder = json.NewEncoder(os.Stdout)
	switch role := os.Args[1]; role {
	case "produce":
		produce(os.Args[2], os.Args[3])
	case "consume":
		consume(os.Args[2], os.Args[3], os.Args[4])
	}
	say(map[string]any{"event": "closed"})
}
