package main

import (
	"context"
	"errors"

	"compat/protocol"

	"github.com/IBM/sarama"
)

type transactor struct {
	bootstrap, topic string
	producer         sarama.SyncProducer
	// Of the consumer that copied in this transaction: it leaves its group when this is called.
	leave func()
}

func transact(bootstrap, topic, id, _ string) protocol.Transactor {
	config := config()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = id
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	protocol.Must(err)
	return &transactor{bootstrap: bootstrap, topic: topic, producer: producer}
}

func (t *transactor) Begin() {
	protocol.Must(t.producer.BeginTxn())
}

func (t *transactor) Send(topic string, values []protocol.Value) {
	var sent []*sarama.ProducerMessage
	for _, value := range values {
		sent = append(sent, &sarama.ProducerMessage{Topic: topic, Partition: value.Partition, Value: sarama.StringEncoder(value.Text)})
	}
	protocol.Must(t.producer.SendMessages(sent))
}

// copier is a member that keeps its claims until it is told to leave, and hands on what it reads.
type copier struct {
	messages chan *sarama.ConsumerMessage
	metadata chan sarama.ConsumerGroupMetadata
	group    string
}

func (c *copier) Setup(session sarama.ConsumerGroupSession) error {
	c.metadata <- sarama.ConsumerGroupMetadata{GroupID: c.group, GenerationID: session.GenerationID(), MemberID: session.MemberID()}
	return nil
}

func (c *copier) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c *copier) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			select {
			case c.messages <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (t *transactor) Copy(source, group string, count int) []protocol.Value {
	config := config()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumerGroup([]string{t.bootstrap}, group, config)
	protocol.Must(err)
	c := &copier{make(chan *sarama.ConsumerMessage), make(chan sarama.ConsumerGroupMetadata, 1), group}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		protocol.Must(consumer.Consume(ctx, []string{source}, c))
		protocol.Must(consumer.Close())
	}()
	t.leave = cancel
	metadata := <-c.metadata
	var values []protocol.Value
	positions := map[int32]*sarama.PartitionOffsetMetadata{}
	for len(values) < count {
		message := <-c.messages
		values = append(values, protocol.Value{Partition: message.Partition, Text: string(message.Value)})
		positions[message.Partition] = &sarama.PartitionOffsetMetadata{
			Partition: message.Partition, Offset: message.Offset + 1, LeaderEpoch: -1,
		}
	}
	t.Send(t.topic, values)
	var offsets []*sarama.PartitionOffsetMetadata
	for _, position := range positions {
		offsets = append(offsets, position)
	}
	protocol.Must(t.producer.AddOffsetsToTxnWithGroupMetadata(map[string][]*sarama.PartitionOffsetMetadata{source: offsets}, &metadata))
	return values
}

func (t *transactor) End(commit bool) bool {
	end := t.producer.AbortTxn
	if commit {
		end = t.producer.CommitTxn
	}
	err := end()
	if t.leave != nil {
		t.leave()
		t.leave = nil
	}
	if errors.Is(err, sarama.ErrProducerFenced) || errors.Is(err, sarama.ErrInvalidProducerEpoch) ||
		t.producer.TxnStatus()&sarama.ProducerTxnFlagFatalError != 0 {
		return false
	}
	protocol.Must(err)
	return true
}

func (t *transactor) Read(level string, partitions int32, take func(protocol.Value) bool) {
	config := config()
	if level == "read_committed" {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	consumer, err := sarama.NewConsumer([]string{t.bootstrap}, config)
	protocol.Must(err)
	messages := make(chan *sarama.ConsumerMessage)
	done := make(chan bool)
	for partition := range partitions {
		reader, err := consumer.ConsumePartition(t.topic, partition, sarama.OffsetOldest)
		protocol.Must(err)
		go func() {
			for {
				select {
				case message := <-reader.Messages():
					select {
					case messages <- message:
					case <-done:
						return
					}
				case <-done:
					return
				}
			}
		}()
	}
	for {
		message := <-messages
		if take(protocol.Value{Partition: message.Partition, Text: string(message.Value)}) {
			break
		}
	}
	close(done)
}

func (t *transactor) Close() {
	protocol.Must(t.producer.Close())
}
