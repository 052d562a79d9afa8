// sarama as a client under test: see harness/process.py for the protocol.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"sync"
	"time"

	"compat/protocol"

	"github.com/IBM/sarama"
)

var codecs = map[string]sarama.CompressionCodec{
	"none":   sarama.CompressionNone,
	"gzip":   sarama.CompressionGZIP,
	"snappy": sarama.CompressionSnappy,
	"lz4":    sarama.CompressionLZ4,
	"zstd":   sarama.CompressionZSTD,
}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	return config
}

func admin(bootstrap string) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	protocol.Must(err)
	return admin
}

func produce(bootstrap, topic string) {
	producers := map[string]sarama.SyncProducer{}
	create := func(partitions int32) {
		admin := admin(bootstrap)
		protocol.Must(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false))
		protocol.Must(admin.Close())
	}
	protocol.Produce(create, func(codec string, records []protocol.Record) []int64 {
		if _, found := producers[codec]; !found {
			producers[codec] = producer(bootstrap, codec)
		}
		return send(producers[codec], topic, records)
	})
	for _, producer := range producers {
		protocol.Must(producer.Close())
	}
}

func producer(bootstrap, codec string) sarama.SyncProducer {
	config := config()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Compression = codecs[codec]
	config.Producer.Flush.Frequency = 5 * time.Millisecond
	// One of them with sequence numbers, the others as sarama is by default.
	if codec == "zstd" {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	protocol.Must(err)
	return producer
}

// What sarama takes for null is an encoder that is nil, not one of no bytes.
func encoder(data []byte) sarama.Encoder {
	if data == nil {
		return nil
	}
	return sarama.ByteEncoder(data)
}

func send(producer sarama.SyncProducer, topic string, records []protocol.Record) []int64 {
	var sent []*sarama.ProducerMessage
	for _, r := range records {
		one := &sarama.ProducerMessage{Topic: topic, Partition: r.Partition, Key: encoder(r.Key), Value: encoder(r.Value), Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			one.Headers = append(one.Headers, sarama.RecordHeader{Key: []byte(h.Name), Value: h.Value})
		}
		sent = append(sent, one)
	}
	protocol.Must(producer.SendMessages(sent))
	offsets := make([]int64, len(sent))
	for i, one := range sent {
		offsets[i] = one.Offset
	}
	return offsets
}

// member is one consumer. Its claims are read by a goroutine each, and commands are obeyed by another.
type member struct {
	sync.Mutex
	topic     string
	session   sarama.ConsumerGroupSession
	positions map[int32]int64
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.Lock()
	defer m.Unlock()
	m.session = session
	protocol.SayAssigned(append([]int32{}, session.Claims()[m.topic]...))
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.Lock()
	defer m.Unlock()
	m.session = nil
	protocol.SayAssigned([]int32{})
	return nil
}

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			m.Lock()
			m.positions[message.Partition] = message.Offset + 1
			tell(message)
			m.Unlock()
		case <-session.Context().Done():
			return nil
		}
	}
}

func tell(message *sarama.ConsumerMessage) {
	headers := []protocol.Header{}
	for _, h := range message.Headers {
		headers = append(headers, protocol.Header{Name: string(h.Key), Value: h.Value})
	}
	protocol.SayRecord(message.Offset, protocol.Record{
		Partition: message.Partition, Key: message.Key, Value: message.Value, Headers: headers, Timestamp: message.Timestamp.UnixMilli(),
	})
}

func (m *member) commit(admin sarama.ClusterAdmin, group string) {
	m.Lock()
	defer m.Unlock()
	if m.session == nil {
		protocol.Must(errors.New("told to commit in a rebalance"))
	}
	assigned := m.session.Claims()[m.topic]
	for _, partition := range assigned {
		if position, found := m.positions[partition]; found {
			m.session.MarkOffset(m.topic, partition, position, "")
		}
	}
	m.session.Commit()
	answer, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{m.topic: assigned})
	protocol.Must(err)
	offsets := map[int32]int64{}
	for _, partition := range assigned {
		block := answer.GetBlock(m.topic, partition)
		if block.Err != sarama.ErrNoError {
			protocol.Must(block.Err)
		}
		offsets[partition] = block.Offset
	}
	protocol.SayCommitted(offsets)
}

func consume(bootstrap, topic, group, _ string) {
	config := config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	consumer, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	protocol.Must(err)
	m := &member{topic: topic, positions: map[int32]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			if err := consumer.Consume(ctx, []string{topic}, m); err != nil {
				log.Println(err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	admin := admin(bootstrap)
	for command := range protocol.Commands() {
		if command.Do == "close" {
			break
		}
		m.commit(admin, group)
	}
	cancel()
	<-ended
	protocol.Must(consumer.Close())
	protocol.Must(admin.Close())
}

type administrator struct {
	sarama.ClusterAdmin
	bootstrap, topic, other string
}

func alone(bootstrap, topic, other string) protocol.Administrator {
	return administrator{admin(bootstrap), bootstrap, topic, other}
}

func (a administrator) Create(partitions int32, settings map[string]*string) {
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: settings}
	protocol.Must(a.CreateTopic(a.other, detail, false))
}

func (a administrator) List() []string {
	topics, err := a.ListTopics()
	protocol.Must(err)
	names := []string{}
	for name := range topics {
		names = append(names, name)
	}
	return names
}

func (a administrator) Describe(settings []string) (int, map[string]string) {
	topics, err := a.DescribeTopics([]string{a.other})
	protocol.Must(err)
	entries, err := a.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: a.other, ConfigNames: settings})
	protocol.Must(err)
	values := map[string]string{}
	for _, entry := range entries {
		values[entry.Name] = entry.Value
	}
	return len(topics[0].Partitions), values
}

func (a administrator) Alter(settings map[string]*string) {
	entries := map[string]sarama.IncrementalAlterConfigsEntry{}
	for name, value := range settings {
		entries[name] = sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: value}
	}
	protocol.Must(a.IncrementalAlterConfig(sarama.TopicResource, a.other, entries, false))
}

func (a administrator) Delete() { protocol.Must(a.DeleteTopic(a.other)) }

func (a administrator) Seek(partition int32, timestamp int64, count int) (int64, bool) {
	client, err := sarama.NewClient([]string{a.bootstrap}, config())
	protocol.Must(err)
	defer client.Close()
	offset, err := client.GetOffset(a.topic, partition, timestamp)
	protocol.Must(err)
	if offset < 0 {
		return 0, false
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	protocol.Must(err)
	defer consumer.Close()
	claim, err := consumer.ConsumePartition(a.topic, partition, offset)
	protocol.Must(err)
	defer claim.Close()
	for left := count; left > 0; left-- {
		tell(<-claim.Messages())
	}
	return offset, true
}

func main() {
	sarama.Logger = log.New(os.Stderr, "", log.LstdFlags)
	protocol.Program{Produce: produce, Consume: consume, Alone: alone, Transact: transact}.Run()
}
