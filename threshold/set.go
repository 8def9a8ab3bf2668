package threshold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/internal/near"
)

//go:embed shipped/*.yaml
var shipped embed.FS

// Named is a threshold with its name and the file that it was read from.
type Named struct {
	Name string
	Text []byte
	*Threshold
}

// Set is the thresholds that can be asked for by name. It doesn't change.
type Set struct{ byName map[string]Named }

// Open reads the shipped thresholds and, unless dir is empty, the files
// NAME.yaml and NAME.yml in dir, which take precedence. A file that isn't a
// threshold is an error that names it.
func Open(dir string) (*Set, error) {
	s := &Set{byName: map[string]Named{}}
	files, err := fs.Sub(shipped, "shipped")
	if err == nil {
		err = s.read(files, "")
	}
	if err == nil && dir != "" {
		err = s.read(os.DirFS(dir), dir)
	}
	if err != nil {
		return nil, fmt.Errorf("thresholds: %w", err)
	}
	return s, nil
}

func (s *Set) read(files fs.FS, dir string) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			return err
		}
		t, err := Parse(text)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		name := strings.TrimSuffix(e.Name(), ext)
		s.byName[name] = Named{Name: name, Text: text, Threshold: t}
	}
	return nil
}

// Names lists the thresholds, sorted.
func (s *Set) Names() []string {
	var names []string
	for name := range s.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Get returns the threshold of that name, or ErrUnknown.
func (s *Set) Get(name string) (Named, error) {
	t, ok := s.byName[name]
	if !ok {
		return Named{}, fmt.Errorf("%w: %q; %s", ErrUnknown, name, near.Instead(name, s.Names()))
	}
	return t, nil
}

// Check returns the messages of the named threshold's findings on doc.
func (s *Set) Check(name string, doc *hdf.Results) ([]string, error) {
	t, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range t.Check(doc) {
		out = append(out, f.Message)
	}
	return out, nil
}

// Find reads the threshold that a person named: a file if there is one of
// that path, else a shipped threshold of that name.
func Find(nameOrFile string) (*Threshold, error) {
	text, err := Read(nameOrFile)
	if err != nil {
		return nil, err
	}
	t, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("threshold %s: %w", nameOrFile, err)
	}
	return t, nil
}

// Read is Find for who parses the text himself.
func Read(nameOrFile string) ([]byte, error) {
	text, err := os.ReadFile(nameOrFile)
	if errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(nameOrFile, "/.") {
		s, err := Open("")
		if err != nil {
			return nil, err
		}
		t, err := s.Get(nameOrFile)
		return t.Text, err
	}
	if err != nil {
		return nil, fmt.Errorf("threshold: %w", err)
	}
	return text, nil
}
