// Command conformance is the runner of the Go SDK: see tests/conformance/README.md for what it is told and answers.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"os"
	"runtime"

	"github.com/restante/restante/clients/go/restante"
)

func main() {
	log.SetFlags(0)
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		log.Fatal(err)
	}
	var greeting struct {
		Hello hello `json:"hello"`
	}
	if err := json.Unmarshal(first, &greeting); err != nil {
		log.Fatal(err)
	}
	runner, err := newRunner(greeting.Hello)
	if err != nil {
		log.Fatal(err)
	}
	write(object{"ready": object{"sdk": restante.Version, "runtime": runtime.Version(), "encoding": "json"}})
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		var asked command
		if err := json.Unmarshal(line, &asked); err != nil {
			log.Fatal(err)
		}
		answer := runner.answer(&asked)
		answer["id"] = asked.ID
		write(answer)
	}
	runner.close()
}

// object is one of JSON.
type object map[string]any

// write sends one line to the judge.
func write(line object) {
	octets, err := json.Marshal(line)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(append(octets, '\n')); err != nil {
		log.Fatal(err)
	}
}

type hello struct {
	Target        string `json:"target"`
	GatewayTarget string `json:"gateway_target"`
	CA            string `json:"ca"`
}

// caller says who calls.
type caller struct {
	Session  string  `json:"session"`
	Token    *octets `json:"token"`
	Identity string  `json:"identity"`
	Secret   string  `json:"secret"`
}

type call struct {
	Method              string          `json:"method"`
	Request             json.RawMessage `json:"request"`
	TimeoutMilliseconds *int64          `json:"timeout_milliseconds"`
	Independent         bool            `json:"independent"`
}

// command has the fields of all commands.
type command struct {
	call
	ID                      int64           `json:"id"`
	Do                      string          `json:"do"`
	As                      *caller         `json:"as"`
	Session                 string          `json:"session"`
	User                    string          `json:"user"`
	Password                string          `json:"password"`
	Token                   octets          `json:"token"`
	Old                     string          `json:"old"`
	New                     string          `json:"new"`
	Take                    *int            `json:"take"`
	CancelAfterMilliseconds *int64          `json:"cancel_after_milliseconds"`
	Operations              []call          `json:"operations"`
	Kind                    string          `json:"kind"`
	Path                    string          `json:"path"`
	MessageID               int64           `json:"message_id,string"`
	Section                 json.RawMessage `json:"section"`
	Stream                  string          `json:"stream"`
	FolderID                int64           `json:"folder_id,string"`
	Cursor                  octets          `json:"cursor"`
	Columns                 []string        `json:"columns"`
	Follow                  bool            `json:"follow"`
}

// octets are base64 in JSON.
type octets []byte

func (o *octets) UnmarshalJSON(text []byte) error {
	var encoded string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return err
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	*o = decoded
	return err
}
