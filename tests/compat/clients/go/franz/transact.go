package main

import (
	"context"
	"errors"
	"time"

	"compat/protocol"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// transactor has a client for its own transactions. What copies is a session of its own, which franz-go has produce, consume
// and commit in one: it comes with the same transactional id, so the client before it is given up, and the one after it too.
type transactor struct {
	bootstrap, topic, id, groupProtocol string
	producer                            *kgo.Client
	session                             *kgo.GroupTransactSession
}

func transact(bootstrap, topic, id, groupProtocol string) protocol.Transactor {
	t := &transactor{bootstrap: bootstrap, topic: topic, id: id, groupProtocol: groupProtocol}
	t.producer = client(bootstrap, t.options()...)
	// The id is initialised with the first transaction.
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	_, _, err := t.producer.ProducerID(ctx)
	protocol.Must(err)
	return t
}

func (t *transactor) options() []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID(t.id), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5 * time.Millisecond)}
}

func (t *transactor) Begin() {
	protocol.Must(t.producer.BeginTransaction())
}

func (t *transactor) Send(topic string, values []protocol.Value) {
	protocol.Must(t.send(t.producer.ProduceSync, topic, values))
}

func (t *transactor) send(produce func(context.Context, ...*kgo.Record) kgo.ProduceResults, topic string, values []protocol.Value) error {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	var sent []*kgo.Record
	for _, value := range values {
		sent = append(sent, &kgo.Record{Topic: topic, Partition: value.Partition, Value: []byte(value.Text)})
	}
	return produce(ctx, sent...).FirstErr()
}

func (t *transactor) Copy(source, group string, count int) []protocol.Value {
	// What was begun is empty.
	protocol.Must(t.producer.EndTransaction(context.Background(), kgo.TryAbort))
	t.producer.Close()
	options := append(t.options(), kgo.SeedBrokers(t.bootstrap), kgo.ConsumeTopics(source), kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RequireStableFetchOffsets())
	if t.groupProtocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	session, err := kgo.NewGroupTransactSession(options...)
	protocol.Must(err)
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	var values []protocol.Value
	protocol.Must(session.Begin())
	for len(values) < count {
		fetches := session.PollRecords(ctx, count-len(values))
		protocol.Must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			values = append(values, protocol.Value{Partition: r.Partition, Text: string(r.Value)})
		})
	}
	protocol.Must(t.send(session.ProduceSync, t.topic, values))
	t.session = session
	return values
}

func (t *transactor) End(commit bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	if t.session != nil {
		committed, err := t.session.End(ctx, kgo.TransactionEndTry(commit))
		protocol.Must(err)
		if committed != commit {
			protocol.Must(errors.New("the session did not end as it was told to"))
		}
		t.session.Close()
		t.session = nil
		t.producer = client(t.bootstrap, t.options()...)
		return true
	}
	err := t.producer.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	if errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch) {
		return false
	}
	protocol.Must(err)
	return true
}

func (t *transactor) Read(level string, partitions int32, take func(protocol.Value) bool) {
	isolation := kgo.ReadUncommitted()
	if level == "read_committed" {
		isolation = kgo.ReadCommitted()
	}
	from := map[int32]kgo.Offset{}
	for partition := range partitions {
		from[partition] = kgo.NewOffset().AtStart()
	}
	reader := client(t.bootstrap, kgo.FetchIsolationLevel(isolation), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.topic: from}))
	defer reader.Close()
	ctx, cancel := context.WithTimeout(context.Background(), protocol.Timeout)
	defer cancel()
	for isOver := false; !isOver; {
		fetches := reader.PollFetches(ctx)
		protocol.Must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			isOver = take(protocol.Value{Partition: r.Partition, Text: string(r.Value)}) || isOver
		})
	}
}

func (t *transactor) Close() {
	t.producer.Close()
}
