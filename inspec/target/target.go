// Package target is what the profile engine looks at: a machine, a root
// filesystem or a running container, behind one small interface. A target
// runs commands and reads files, and every answer is exact: bytes as they
// are, standard output and standard error apart, the true exit status.
//
// The makers are local: (this machine), dir:PATH (a root filesystem that is
// only read: nothing of it is ever run, and no symbolic link leads out of
// it), chroot:PATH (its files are read the same way and its own commands run
// in it) and shell:COMMAND (any command that gives a POSIX shell on its
// standard input). NewShell makes one of a shell's three streams, whoever
// provides them, and NewFiles one of a file system, however it is kept: package
// image's archive: and image: are such.
//
// What a target cannot answer is an error, never an empty answer: a caller
// must be able to tell "there is no such file" from "I may not look".
package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Target is one thing under inspection. Its methods may be called
// concurrently. Paths are absolute, in the target's own root.
type Target interface {
	// URI names the target as it was asked for; it holds no credentials
	// beyond those that the caller wrote into it.
	URI() string
	// Run runs cmd with /bin/sh -c, standard input empty. A command that ends
	// with a status other than zero is no error. The error is ErrNoCommands
	// where nothing can be run, a *TimeoutError or *OutputError where a limit
	// ended the command, or says that the target is gone.
	Run(ctx context.Context, cmd string) (CommandResult, error)
	Files
	// Platform says what operating system this is; it is found out once.
	Platform(ctx context.Context) (Platform, error)
}

// Files is the file system of a target. Its methods may be called
// concurrently. Paths are absolute, in the target's own root.
type Files interface {
	// Stat describes the file at path, or what it finally points at when
	// follow is true. A file that isn't there, or a link that leads nowhere,
	// is fs.ErrNotExist; one behind a directory that may not be searched is
	// fs.ErrPermission.
	Stat(ctx context.Context, path string, follow bool) (FileInfo, error)
	// ReadFile returns the content of the regular file at path, links
	// followed. A file of more than limit bytes is a *OutputError.
	ReadFile(ctx context.Context, path string, limit int64) ([]byte, error)
	// ReadDir returns the names in a directory, sorted, without . and ..
	ReadDir(ctx context.Context, path string) ([]string, error)
	// Readlink returns the text of a symbolic link.
	Readlink(ctx context.Context, path string) (string, error)
	// Close ends whatever was started for the target. A second call is
	// harmless.
	Close() error
}

// CommandResult is what a command did. A command ended by signal n has the
// status 128+n, as the shell reports it.
type CommandResult struct {
	Stdout     []byte
	Stderr     []byte
	ExitStatus int
}

// FileType is the kind of a file, under the names that InSpec gives them.
type FileType string

// The kinds of file.
const (
	File            FileType = "file"
	Directory       FileType = "directory"
	Symlink         FileType = "symlink"
	CharacterDevice FileType = "character_device"
	BlockDevice     FileType = "block_device"
	Socket          FileType = "socket"
	Pipe            FileType = "pipe"
	Unknown         FileType = "unknown"
)

// FileInfo describes a file. Mode holds the permission bits and setuid,
// setgid and sticky (octal 7777). Owner and Group are "UNKNOWN" for ids
// without a name in the target.
type FileInfo struct {
	Type    FileType
	Mode    uint32
	Size    int64
	UID     int
	GID     int
	Owner   string
	Group   string
	ModTime time.Time
}

// Platform is the operating system of a target in train's terms: Families
// goes from the most specific one ("debian") to "os".
type Platform struct {
	Name     string
	Title    string
	Family   string
	Families []string
	Release  string
	Arch     string
}

// Is reports whether name is the platform's name or one of its families.
func (p Platform) Is(name string) bool {
	if p.Name == name {
		return true
	}
	for _, f := range p.Families {
		if f == name {
			return true
		}
	}
	return false
}

// The limits that hold where the caller gives none.
const (
	CommandTimeout = 10 * time.Minute
	MaxOutput      = 64 << 20
)

// ErrNoCommands says that the target is files alone.
var ErrNoCommands = errors.New("this target is files alone: no command can be run on it; scan it as chroot: or in a running container to answer this")

// ErrClosed says that the target was closed.
var ErrClosed = errors.New("target is closed")

// TimeoutError says that a command was ended because it ran too long.
type TimeoutError struct {
	Command string
	After   time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("command %q did not end within %v and was killed", short(e.Command), e.After)
}

// OutputError says that a command or a file gave more than may be kept.
type OutputError struct {
	What  string
	Limit int64
}

func (e *OutputError) Error() string {
	return fmt.Sprintf("%s gave more than the %d bytes that are allowed", e.What, e.Limit)
}

// LostError says that the stream to the target ended. Stderr is what it said
// last.
type LostError struct {
	URI    string
	Reason string
	Stderr string
}

func (e *LostError) Error() string {
	s := fmt.Sprintf("target %s is gone: %s", e.URI, e.Reason)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// Open opens the target that uri names: local:, dir:PATH, chroot:PATH or
// shell:COMMAND. Targets in a cluster are package scan/kube's.
func Open(ctx context.Context, uri string) (Target, error) {
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok {
		return nil, fmt.Errorf("target %q has no scheme; write local:, dir:PATH, chroot:PATH, archive:FILE, image:REFERENCE, shell:COMMAND or k8s-container://NAMESPACE/POD/CONTAINER", uri)
	}
	switch scheme {
	case "local":
		if strings.Trim(rest, "/") != "" {
			return nil, fmt.Errorf("target %q: local: takes nothing after it; for a directory write dir:%s", uri, rest)
		}
		return openLocal(uri)
	case "dir":
		return openDir(uri, rest)
	case "chroot":
		return openChroot(uri, rest)
	case "shell":
		return openShell(ctx, uri, rest)
	}
	return nil, fmt.Errorf("target %q: unknown kind %q; use local:, dir:PATH, chroot:PATH, archive:FILE, image:REFERENCE, shell:COMMAND or k8s-container://NAMESPACE/POD/CONTAINER", uri, scheme)
}

func short(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}

func pathError(op, path string, err error) error {
	return &fs.PathError{Op: op, Path: path, Err: err}
}
