// Package protocol is the Go clients' end of the line protocol that harness/process.py describes.
package protocol

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// Timeout is far beyond what a call takes on a busy machine.
const Timeout = 30 * time.Second

// Header is an array of two in the protocol: its name, and its bytes in base64 or null.
type Header struct {
	Name  string
	Value []byte
}

func (h Header) MarshalJSON() ([]byte, error) { return json.Marshal([]any{h.Name, h.Value}) }

func (h *Header) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&h.Name, &h.Value})
}

type Record struct {
	Partition int32    `json:"partition"`
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
	Timestamp int64    `json:"timestamp"`
}

// Command has the fields of all commands; those that a command does not have are empty.
type Command struct {
	Do         string   `json:"do"`
	Partitions int32    `json:"partitions"`
	Codec      string   `json:"codec"`
	Records    []Record `json:"records"`
	// Of `create` and `alter` an object, of `describe` an array of names.
	Settings  json.RawMessage `json:"settings"`
	Partition int32           `json:"partition"`
	Timestamp int64           `json:"timestamp"`
	Count     int             `json:"count"`
	// Of one with transactions.
	Topic  string  `json:"topic"`
	Texts  []Value `json:"values"`
	Source string  `json:"source"`
	Group  string  `json:"group"`
	Level  string  `json:"level"`
	Until  string  `json:"until"`
}

// Value is an array of two in the protocol: a partition, and a text.
type Value struct {
	Partition int32
	Text      string
}

func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal([]any{v.Partition, v.Text}) }

func (v *Value) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&v.Partition, &v.Text})
}

// Values is the object of settings of `create` and `alter`.
func (c Command) Values() map[string]*string {
	values := map[string]*string{}
	if len(c.Settings) > 0 {
		Must(json.Unmarshal(c.Settings, &values))
	}
	return values
}

// Names is the array of settings of `describe`.
func (c Command) Names() []string {
	var names []string
	Must(json.Unmarshal(c.Settings, &names))
	return names
}

// Administrator is what a client can do with the one topic that is its own, and by itself.
type Administrator interface {
	Create(partitions int32, settings map[string]*string)
	List() []string
	Describe(settings []string) (partitions int, values map[string]string)
	Alter(settings map[string]*string)
	Delete()
	// Seek tells the first offset that is of this time or later and reads from there; false if there is none.
	Seek(partition int32, timestamp int64, count int) (int64, bool)
}

// Transactor is a client with a transactional id.
type Transactor interface {
	Begin()
	Send(topic string, values []Value)
	// Copy reads as a member of the group, and sends what it has read, and the offsets behind it, in the transaction.
	Copy(source, group string, count int) []Value
	// End tells whether it was not fenced.
	End(commit bool) bool
	// Read calls take with each record from the beginning until it says that it is over.
	Read(level string, partitions int32, take func(Value) bool)
	Close()
}

// Transact obeys the commands of one with transactions.
func Transact(t Transactor) {
	Say(map[string]any{"event": "ready"})
	for command := range Commands() {
		switch command.Do {
		case "close":
			t.Close()
			return
		case "begin":
			t.Begin()
			Say(map[string]any{"event": "begun"})
		case "send":
			t.Send(command.Topic, command.Texts)
			Say(map[string]any{"event": "sent"})
		case "copy":
			Say(map[string]any{"event": "copied", "values": t.Copy(command.Source, command.Group, command.Count)})
		case "commit", "abort":
			event := "fenced"
			if t.End(command.Do == "commit") {
				event = "ended"
			}
			Say(map[string]any{"event": event})
		case "read":
			Say(map[string]any{"event": "read", "values": read(t, command)})
		}
	}
}

func read(t Transactor, command Command) []Value {
	values, ended := []Value{}, map[int32]bool{}
	t.Read(command.Level, command.Partitions, func(value Value) bool {
		if !ended[value.Partition] {
			values = append(values, value)
			ended[value.Partition] = value.Text == command.Until
		}
		if ended[value.Partition] {
			done := int32(0)
			for _, one := range ended {
				if one {
					done++
				}
			}
			return done == command.Partitions
		}
		return false
	})
	return values
}

var output = struct {
	sync.Mutex
	*json.Encoder
}{Encoder: json.NewEncoder(os.Stdout)}

func Say(event any) {
	output.Lock()
	defer output.Unlock()
	Must(output.Encode(event))
}

func SayAssigned(partitions []int32) {
	Say(map[string]any{"event": "assigned", "partitions": partitions})
}

func SayCommitted(offsets map[int32]int64) {
	Say(map[string]any{"event": "committed", "offsets": offsets})
}

func SayRecord(offset int64, record Record) {
	if record.Headers == nil {
		record.Headers = []Header{}
	}
	Say(struct {
		Event  string `json:"event"`
		Offset int64  `json:"offset"`
		Record
	}{"record", offset, record})
}

func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Commands reads stdin until `close` or its end, which is a `close` too.
func Commands() <-chan Command {
	commands := make(chan Command)
	go func() {
		input := json.NewDecoder(bufio.NewReader(os.Stdin))
		for {
			var next Command
			if input.Decode(&next) != nil {
				next = Command{Do: "close"}
			}
			commands <- next
			if next.Do == "close" {
				return
			}
		}
	}()
	return commands
}

// Produce obeys the commands of a producer: `send` returns the offsets that the records got.
func Produce(create func(partitions int32), send func(codec string, records []Record) []int64) {
	for command := range Commands() {
		switch command.Do {
		case "close":
			return
		case "create":
			create(command.Partitions)
			Say(map[string]any{"event": "created"})
		case "produce":
			Say(map[string]any{"event": "produced", "offsets": send(command.Codec, command.Records)})
		}
	}
}

// Administer obeys the commands of one that is alone.
func Administer(a Administrator) {
	for command := range Commands() {
		switch command.Do {
		case "close":
			return
		case "create":
			a.Create(command.Partitions, command.Values())
			Say(map[string]any{"event": "created"})
		case "list":
			Say(map[string]any{"event": "listed", "topics": a.List()})
		case "describe":
			partitions, values := a.Describe(command.Names())
			Say(map[string]any{"event": "described", "partitions": partitions, "settings": values})
		case "alter":
			a.Alter(command.Values())
			Say(map[string]any{"event": "altered"})
		case "delete":
			a.Delete()
			Say(map[string]any{"event": "deleted"})
		case "seek":
			var told any
			if offset, found := a.Seek(command.Partition, command.Timestamp, command.Count); found {
				told = offset
			}
			Say(map[string]any{"event": "sought", "offset": told})
		}
	}
}

// Program is one client's three roles.
type Program struct {
	Produce func(bootstrap, topic string)
	Consume func(bootstrap, topic, group, groupProtocol string)
	Alone   func(bootstrap, topic, other string) Administrator
	// Transact is nil where the client has none.
	Transact func(bootstrap, topic, id, groupProtocol string) Transactor
}

func (p Program) Run() {
	bootstrap, topic := os.Args[2], os.Args[3]
	switch os.Args[1] {
	case "produce":
		p.Produce(bootstrap, topic)
	case "consume":
		p.Consume(bootstrap, topic, os.Args[4], os.Getenv("GROUP_PROTOCOL"))
	case "alone":
		Administer(p.Alone(bootstrap, topic, os.Args[4]))
	case "transact":
		Transact(p.Transact(bootstrap, topic, os.Args[4], os.Getenv("GROUP_PROTOCOL")))
	}
	Say(map[string]any{"event": "closed"})
}
