// segmentio/kafka-go as a client under test: see harness/process.py for the protocol.
//
// Its Reader does not tell what it is assigned, so a member is a ConsumerGroup with a Reader for each partition: what a
// Reader of a group is made of.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"compat/protocol"

	"github.com/segmentio/kafka-go"
)

var codecs = map[string]kafka.Compression{
	"none":   0,
	"gzip":   kafka.Gzip,
	"snappy": kafka.Snappy,
	"lz4":    kafka.Lz4,
	"zstd":   kafka.Zstd,
}

var errorLogger = log.New(os.Stderr, "", log.LstdFlags)

func address(bootstrap string) net.Addr { return kafka.TCP(bootstrap) }

func create(bootstrap, topic string, partitions int32, settings map[string]*string) {
	config := kafka.TopicConfig{Topic: topic, NumPartitions: int(partitions), ReplicationFactor: 1}
	for name, value := range settings {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: *value})
	}
	client := &kafka.Client{Addr: address(bootstrap), Timeout: protocol.Timeout}
	answer, err := client.CreateTopics(context.Background(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
	protocol.Must(err)
	protocol.Must(answer.Errors[topic])
}

// place is what a message carries through the Writer: where it has to go, and its place among those sent with it.
type place struct {
	partition, index int
}

func produce(bootstrap, topic string) {
	writers := map[string]*kafka.Writer{}
	var lock sync.Mutex
	var offsets []int64
	completion := func(messages []kafka.Message, err error) {
		protocol.Must(err)
		lock.Lock()
		defer lock.Unlock()
		for _, message := range messages {
			offsets[message.WriterData.(place).index] = message.Offset
		}
	}
	protocol.Produce(func(partitions int32) { create(bootstrap, topic, partitions, nil) }, func(codec string, records []protocol.Record) []int64 {
		if _, found := writers[codec]; !found {
			writers[codec] = &kafka.Writer{
				Addr: address(bootstrap), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: codecs[codec],
				BatchSize: 1000, BatchTimeout: 5 * time.Millisecond, ErrorLogger: errorLogger, Completion: completion,
				Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return message.WriterData.(place).partition }),
			}
		}
		offsets = make([]int64, len(records))
		send(writers[codec], records)
		return offsets
	})
	for _, writer := range writers {
		protocol.Must(writer.Close())
	}
}

func send(writer *kafka.Writer, records []protocol.Record) {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	var sent []kafka.Message
	for i, r := range records {
		one := kafka.Message{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Timestamp), WriterData: place{int(r.Partition), i}}
		for _, h := range r.Headers {
			one.Headers = append(one.Headers, kafka.Header{Key: h.Name, Value: h.Value})
		}
		sent = append(sent, one)
	}
	protocol.Must(writer.WriteMessages(ctx, sent...))
}

// member is one consumer: the generation of its group that it is in, if any, and the position in each partition.
type member struct {
	sync.Mutex
	bootstrap, topic string
	generation       *kafka.Generation
	positions        map[int]int64
}

func (m *member) begin(generation *kafka.Generation) {
	m.Lock()
	defer m.Unlock()
	m.generation = generation
	partitions := []int32{}
	for _, assigned := range generation.Assignments[m.topic] {
		partitions = append(partitions, int32(assigned.ID))
		generation.Start(func(ctx context.Context) { m.read(ctx, assigned) })
	}
	protocol.SayAssigned(partitions)
	generation.Start(func(ctx context.Context) {
		<-ctx.Done()
		m.Lock()
		defer m.Unlock()
		m.generation = nil
		protocol.SayAssigned([]int32{})
	})
}

func reader(bootstrap, topic string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, Partition: partition, MaxWait: 200 * time.Millisecond, ErrorLogger: errorLogger,
	})
}

func (m *member) read(ctx context.Context, assigned kafka.PartitionAssignment) {
	reader := reader(m.bootstrap, m.topic, assigned.ID)
	defer reader.Close()
	protocol.Must(reader.SetOffset(assigned.Offset))
	for {
		message, err := reader.ReadMessage(ctx)
		if ctx.Err() != nil {
			return
		}
		// Its user is to read again when the broker was not to be reached.
		if err != nil {
			errorLogger.Println(err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		m.Lock()
		m.positions[message.Partition] = message.Offset + 1
		tell(message)
		m.Unlock()
	}
}

func tell(message kafka.Message) {
	headers := []protocol.Header{}
	for _, h := range message.Headers {
		headers = append(headers, protocol.Header{Name: h.Key, Value: h.Value})
	}
	protocol.SayRecord(message.Offset, protocol.Record{
		Partition: int32(message.Partition), Key: message.Key, Value: message.Value, Headers: headers, Timestamp: message.Time.UnixMilli(),
	})
}

func (m *member) commit(client *kafka.Client, group string) {
	m.Lock()
	defer m.Unlock()
	if m.generation == nil {
		protocol.Must(errors.New("told to commit in a rebalance"))
	}
	assigned, read := []int{}, map[int]int64{}
	for _, one := range m.generation.Assignments[m.topic] {
		assigned = append(assigned, one.ID)
		if position, found := m.positions[one.ID]; found {
			read[one.ID] = position
		}
	}
	protocol.Must(m.generation.CommitOffsets(map[string]map[int]int64{m.topic: read}))
	answer, err := client.OffsetFetch(context.Background(), &kafka.OffsetFetchRequest{GroupID: group, Topics: map[string][]int{m.topic: assigned}})
	protocol.Must(err)
	protocol.Must(answer.Error)
	offsets := map[int32]int64{}
	for _, partition := range answer.Topics[m.topic] {
		protocol.Must(partition.Error)
		offsets[int32(partition.Partition)] = partition.CommittedOffset
	}
	protocol.SayCommitted(offsets)
}

func consume(bootstrap, topic, group, _ string) {
	consumer, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: []string{bootstrap}, Topics: []string{topic}, HeartbeatInterval: 300 * time.Millisecond,
		SessionTimeout: 10 * time.Second, RebalanceTimeout: 10 * time.Second, JoinGroupBackoff: time.Second, ErrorLogger: errorLogger,
	})
	protocol.Must(err)
	m := &member{bootstrap: bootstrap, topic: topic, positions: map[int]int64{}}
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			generation, err := consumer.Next(context.Background())
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				continue
			}
			m.begin(generation)
		}
	}()
	client := &kafka.Client{Addr: address(bootstrap), Timeout: protocol.Timeout}
	for command := range protocol.Commands() {
		if command.Do == "close" {
			break
		}
		m.commit(client, group)
	}
	protocol.Must(consumer.Close())
	<-ended
}

type administrator struct {
	*kafka.Client
	bootstrap, topic, other string
}

func alone(bootstrap, topic, other string) protocol.Administrator {
	client := &kafka.Client{Addr: address(bootstrap), Timeout: protocol.Timeout}
	return administrator{client, bootstrap, topic, other}
}

func (a administrator) Create(partitions int32, settings map[string]*string) {
	create(a.bootstrap, a.other, partitions, settings)
}

func (a administrator) topics() map[string]kafka.Topic {
	answer, err := a.Metadata(context.Background(), &kafka.MetadataRequest{})
	protocol.Must(err)
	topics := map[string]kafka.Topic{}
	for _, topic := range answer.Topics {
		protocol.Must(topic.Error)
		topics[topic.Name] = topic
	}
	return topics
}

func (a administrator) List() []string {
	names := []string{}
	for name := range a.topics() {
		names = append(names, name)
	}
	return names
}

func (a administrator) Describe(settings []string) (int, map[string]string) {
	answer, err := a.DescribeConfigs(context.Background(), &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: a.other, ConfigNames: settings}},
	})
	protocol.Must(err)
	protocol.Must(answer.Resources[0].Error)
	values := map[string]string{}
	for _, entry := range answer.Resources[0].ConfigEntries {
		values[entry.ConfigName] = entry.ConfigValue
	}
	return len(a.topics()[a.other].Partitions), values
}

func (a administrator) Alter(settings map[string]*string) {
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: a.other}
	for name, value := range settings {
		resource.Configs = append(resource.Configs, kafka.IncrementalAlterConfigsRequestConfig{
			Name: name, Value: *value, ConfigOperation: kafka.ConfigOperationSet,
		})
	}
	answer, err := a.IncrementalAlterConfigs(context.Background(), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{resource},
	})
	protocol.Must(err)
	protocol.Must(answer.Resources[0].Error)
}

func (a administrator) Delete() {
	answer, err := a.DeleteTopics(context.Background(), &kafka.DeleteTopicsRequest{Topics: []string{a.other}})
	protocol.Must(err)
	protocol.Must(answer.Errors[a.other])
}

func (a administrator) Seek(partition int32, timestamp int64, count int) (int64, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	reader := reader(a.bootstrap, a.topic, int(partition))
	defer reader.Close()
	// SetOffsetAt does not say that nothing is so late, so the client is asked first.
	asked := kafka.TimeOffsetOf(int(partition), time.UnixMilli(timestamp))
	answer, err := a.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{a.topic: {asked}}})
	protocol.Must(err)
	found := int64(-1)
	for offset := range answer.Topics[a.topic][0].Offsets {
		found = offset
	}
	if found < 0 {
		return 0, false
	}
	protocol.Must(reader.SetOffsetAt(ctx, time.UnixMilli(timestamp)))
	for left := count; left > 0; left-- {
		message, err := reader.ReadMessage(ctx)
		protocol.Must(err)
		tell(message)
	}
	return found, true
}

func main() {
	protocol.Program{Produce: produce, Consume: consume, Alone: alone}.Run()
}
