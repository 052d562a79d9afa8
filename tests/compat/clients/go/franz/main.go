// franz-go as a client under test: see harness/process.py for the protocol.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"compat/protocol"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

// How long an administrator believes metadata that it has: the least that franz-go takes.
const metadataAge = 10 * time.Millisecond

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	logger := kgo.BasicLogger(os.Stderr, kgo.LogLevelWarn, nil)
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap), kgo.WithLogger(logger))...)
	protocol.Must(err)
	return made
}

func produce(bootstrap, topic string) {
	producers := map[string]*kgo.Client{}
	create := func(partitions int32) {
		admin := client(bootstrap)
		defer admin.Close()
		_, err := kadm.NewClient(admin).CreateTopic(context.Background(), partitions, 1, nil, topic)
		protocol.Must(err)
	}
	protocol.Produce(create, func(codec string, records []protocol.Record) []int64 {
		producer, found := producers[codec]
		if !found {
			producer = client(bootstrap, kgo.RecordPartitioner(kgo.ManualPartitioner()),
				kgo.ProducerBatchCompression(codecs[codec]), kgo.ProducerLinger(5*time.Millisecond))
			producers[codec] = producer
		}
		return send(producer, topic, records)
	})
	for _, producer := range producers {
		producer.Close()
	}
}

func send(producer *kgo.Client, topic string, records []protocol.Record) []int64 {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	var sent []*kgo.Record
	for _, r := range records {
		one := &kgo.Record{Topic: topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			one.Headers = append(one.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
		}
		sent = append(sent, one)
	}
	protocol.Must(producer.ProduceSync(ctx, sent...).FirstErr())
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
	protocol.SayAssigned(partitions)
}

func consume(bootstrap, topic, group, groupProtocol string) {
	m := &member{topic, map[int32]bool{}, map[int32]*kgo.Record{}}
	// Rebalances are blocked while a poll is worked on, so the callbacks and the loop never run at once.
	options := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300 * time.Millisecond), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) { m.change(added, nil) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.change(nil, taken) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, taken map[string][]int32) { m.change(nil, taken) })}
	if groupProtocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	consumer := client(bootstrap, options...)
	commands := protocol.Commands()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		fetches := consumer.PollFetches(ctx)
		cancel()
		tellErrors(fetches)
		fetches.EachRecord(func(r *kgo.Record) {
			m.last[r.Partition] = r
			tell(r)
		})
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

func tellErrors(fetches kgo.Fetches) {
	fetches.EachError(func(_ string, partition int32, err error) {
		if err != context.DeadlineExceeded {
			fmt.Fprintln(os.Stderr, "partition", partition, err)
		}
	})
}

func tell(r *kgo.Record) {
	headers := []protocol.Header{}
	for _, h := range r.Headers {
		headers = append(headers, protocol.Header{Name: h.Key, Value: h.Value})
	}
	protocol.SayRecord(r.Offset, protocol.Record{
		Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: headers, Timestamp: r.Timestamp.UnixMilli(),
	})
}

func (m *member) commit(consumer *kgo.Client, group string) {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	var read []*kgo.Record
	for partition := range m.assignment {
		if last, found := m.last[partition]; found {
			read = append(read, last)
		}
	}
	protocol.Must(consumer.CommitRecords(ctx, read...))
	answer, err := kadm.NewClient(consumer).FetchOffsets(ctx, group)
	protocol.Must(err)
	offsets := map[int32]int64{}
	answer.Each(func(offset kadm.OffsetResponse) {
		protocol.Must(offset.Err)
		if m.assignment[offset.Partition] {
			offsets[offset.Partition] = offset.At
		}
	})
	protocol.SayCommitted(offsets)
}

type administrator struct {
	bootstrap, topic, other string
	*kadm.Client
}

func alone(bootstrap, topic, other string) protocol.Administrator {
	return administrator{bootstrap, topic, other, kadm.NewClient(client(bootstrap, kgo.MetadataMinAge(metadataAge)))}
}

func (a administrator) Create(partitions int32, settings map[string]*string) {
	_, err := a.CreateTopic(context.Background(), partitions, 1, settings, a.other)
	protocol.Must(err)
}

func (a administrator) List() []string {
	// What was just created is not to be hidden by metadata that was kept.
	time.Sleep(metadataAge)
	topics, err := a.ListTopics(context.Background())
	protocol.Must(err)
	return topics.Names()
}

func (a administrator) Describe(settings []string) (int, map[string]string) {
	topics, err := a.ListTopics(context.Background(), a.other)
	protocol.Must(err)
	configs, err := a.DescribeTopicConfigs(context.Background(), a.other)
	protocol.Must(err)
	config, err := configs.On(a.other, nil)
	protocol.Must(err)
	values := map[string]string{}
	for _, name := range settings {
		for _, one := range config.Configs {
			if one.Key == name {
				values[name] = one.MaybeValue()
			}
		}
	}
	return len(topics[a.other].Partitions), values
}

func (a administrator) Alter(settings map[string]*string) {
	var changes []kadm.AlterConfig
	for name, value := range settings {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: value})
	}
	answers, err := a.AlterTopicConfigs(context.Background(), changes, a.other)
	protocol.Must(err)
	for _, answer := range answers {
		protocol.Must(answer.Err)
	}
}

func (a administrator) Delete() {
	answers, err := a.DeleteTopics(context.Background(), a.other)
	protocol.Must(err)
	protocol.Must(answers.Error())
}

func (a administrator) Seek(partition int32, timestamp int64, count int) (int64, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	listed, err := a.ListOffsetsAfterMilli(ctx, timestamp, a.topic)
	protocol.Must(err)
	found, _ := listed.Lookup(a.topic, partition)
	protocol.Must(found.Err)
	// kadm tells the end of the partition, without a time, where nothing is so late.
	if found.Timestamp < 0 {
		return 0, false
	}
	reader := client(a.bootstrap, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		a.topic: {partition: kgo.NewOffset().AfterMilli(timestamp)},
	}))
	defer reader.Close()
	for left := count; left > 0; {
		fetches := reader.PollRecords(ctx, left)
		protocol.Must(fetches.Err())
		fetches.EachRecord(tell)
		left -= fetches.NumRecords()
	}
	return found.Offset, true
}

func main() {
	protocol.Program{Produce: produce, Consume: consume, Alone: alone, Transact: transact}.Run()
}
