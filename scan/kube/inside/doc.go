// Package inside is the scanner's half in the pod that is scanned: of an
// ephemeral container beside a container that has no shell, or of a sidecar
// that the pod's author put there. The program is cmd/reeve-scanner.
//
// Wait keeps the container up. For each shell or look at files that a scan
// wants, Enter is started in it by exec. It finds the container among the
// processes that it shares with it, makes sure that their root isn't its own,
// writes a Hello, and becomes what the Hello says:
//
//   - a shell of the container, started as its own processes are: as their user,
//     with their groups, capabilities, environment and directory, in their mount
//     namespace; without the right to join that, by chroot;
//   - where the container has no shell, or none that it may start: a server of
//     the container's files (target.ServeFiles), of which nothing is run.
//
// All that it needs it is told by its arguments, and it keeps nothing.
package inside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Hello is the first line that Enter writes.
type Hello struct {
	// Reeve is the protocol's version; 1.
	Reeve int `json:"reeve"`
	// Shell says that a shell's streams follow, and not those of a
	// target.ServeFiles.
	Shell bool `json:"shell"`
	// Mounts says that what runs sees the container's own table of mounts.
	Mounts bool `json:"mounts"`
	// Why says why there is no shell, or what is wrong.
	Why string `json:"why,omitempty"`
	// Failed says that nothing follows, because of Why.
	Failed bool `json:"failed,omitempty"`
}

const version = 1

// maxHello bounds the line of a Hello.
const maxHello = 4096

// ReadHello reads the Hello that r begins with. An Enter that couldn't enter
// is an error; so is, as io.ErrUnexpectedEOF, the end of the stream.
func ReadHello(r *bufio.Reader) (Hello, error) {
	var h Hello
	line, err := io.ReadAll(io.LimitReader(lineOf{r}, maxHello))
	switch {
	case err != nil:
		return h, err
	case json.Unmarshal(line, &h) != nil || h.Reeve == 0:
		return h, fmt.Errorf("the scanner in the pod said %q: it is no reeve-scanner", line)
	case h.Reeve != version:
		return h, fmt.Errorf("the scanner in the pod speaks version %d of the protocol, and this program %d: use an image of the same release", h.Reeve, version)
	case h.Failed:
		return h, errors.New(h.Why)
	}
	return h, nil
}

// lineOf reads up to the end of a line, and no further.
type lineOf struct{ r *bufio.Reader }

func (l lineOf) Read(p []byte) (int, error) {
	b, err := l.r.ReadByte()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // the stream's end, not the line's
	}
	if err != nil {
		return 0, err
	}
	if b == '\n' {
		return 0, io.EOF
	}
	p[0] = b
	return 1, nil
}

// Container says which container is entered.
type Container struct {
	// ID is that of the container runtime, without its scheme; Name is the
	// container's in the pod.
	ID, Name string
	// First says that process 1 is the container's, since the pod's containers
	// don't share their processes.
	First bool
	// User is UID or UID:GID as which commands are run; empty: that of the
	// container's first process.
	User string
}

// Lives bound how long Wait waits; zero is for ever.
type Lives struct {
	// All is the longest in any case, Idle that without an Enter. Once there
	// was an Enter, Wait ends with the last of them.
	All, Idle time.Duration
}
