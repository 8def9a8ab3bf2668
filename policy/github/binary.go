package github

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	gh "github.com/google/go-github/v89/github"
)

// binaryArtifacts is the policy Binary Artifacts: no programs in the repository
// that nobody can review.
type binaryArtifacts struct {
	acting
	// IgnoreFiles are names of files, IgnorePaths whole paths.
	IgnoreFiles []string `key:"ignoreFiles" layer:"org"`
	IgnorePaths []string `key:"ignorePaths" layer:"repo"`
}

func (p *binaryArtifacts) validate(report func(key, text string)) { p.acting.validate(report, false) }

const (
	// maxArchive bounds what is unpacked of an archive, and maxFiles its files.
	maxArchive = 8 << 30
	maxFiles   = 2_000_000
	// sniffed is how much of a file says what it is.
	sniffed = 1 << 10
	// maxFound bounds what is remembered of a repository, and maxNames the bytes
	// of it.
	maxFound = 10_000
	maxNames = 4 << 20
)

func (p *binaryArtifacts) judge(ctx context.Context, r *repository) (verdict, error) {
	sha, err := r.at(ctx, r.GetDefaultBranch())
	if err != nil {
		return verdict{}, err
	}
	if branches, err := r.branches(ctx); err != nil || len(branches) == 0 {
		return passed("The repository is empty."), err
	}
	all, err := r.artifacts(ctx, sha)
	if err != nil {
		return verdict{}, err
	}
	names := slices.DeleteFunc(all.found, func(name string) bool {
		return slices.Contains(p.IgnorePaths, name) || slices.Contains(p.IgnoreFiles, path.Base(name))
	})
	if slices.ContainsFunc(names, isWrapper) {
		checked, err := r.wrappersChecked(ctx)
		if err != nil {
			return verdict{}, err
		}
		if checked {
			names = slices.DeleteFunc(names, isWrapper)
		}
	}
	var found []string
	for _, name := range names {
		found = append(found, "`"+name+"`")
	}
	if len(found) == 0 && all.unread != "" {
		return verdict{}, unjudged("%s", all.unread)
	}
	if len(found) == 0 {
		return passed("No binary artifact was found."), nil
	}
	return failed("The repository holds %d binary artifacts. Nobody can review what they do: they may be out of date, or not made from the code beside them.\n\n%s\n"+
		"Remove them from the repository and have them built, or fetched with a checksum, where they are needed. What must stay can be listed in ignorePaths of .allstar/binary_artifacts.yaml, if the organisation allows it.\n"+
		"See https://github.com/ossf/scorecard/blob/main/docs/checks.md#binary-artifacts.", len(found), lines("files", found)), nil
}

// wrapper is the program by which Gradle fetches itself. Nearly every project of
// Gradle's has it, and there is an action that compares it with those that Gradle
// has released.
const wrapper = "gradle-wrapper.jar"

func isWrapper(name string) bool { return path.Base(name) == wrapper }

// wrappersChecked reports whether the workflow that compares wrappers with
// Gradle's succeeded on the newest commit.
func (r *repository) wrappersChecked(ctx context.Context) (bool, error) {
	flows, err := r.workflows(ctx, r.GetDefaultBranch())
	if err != nil {
		return false, err
	}
	sha, err := r.at(ctx, r.GetDefaultBranch())
	if err != nil {
		return false, err
	}
	for _, w := range flows {
		if !slices.ContainsFunc(w.steps, func(s step) bool {
			name, _, _ := strings.Cut(strings.ToLower(s.uses), "@")
			return name == "gradle/wrapper-validation-action" || name == "gradle/actions/wrapper-validation"
		}) {
			continue
		}
		runs, _, err := r.acct.client.Actions.ListWorkflowRunsByFileName(ctx, r.owner(), r.GetName(), w.file,
			&gh.ListWorkflowRunsOptions{HeadSHA: sha, Status: "success", ListOptions: gh.ListOptions{PerPage: perPage}})
		if err != nil {
			return false, plain(err)
		}
		if slices.ContainsFunc(runs.WorkflowRuns, func(run *gh.WorkflowRun) bool { return run.GetHeadSHA() == sha && run.GetConclusion() == "success" }) {
			return true, nil
		}
	}
	return false, nil
}

// artifacts are the binary artifacts of a commit. Unread says why it may have
// others; empty: it hasn't.
type artifacts struct {
	found  []string
	unread string
}

// artifacts finds those of a commit, which never change.
func (r *repository) artifacts(ctx context.Context, sha string) (artifacts, error) {
	m := memoryOf(ctx)
	name := "binaries:" + sha
	if sha != "" && m != nil {
		if text, ok := m.text(name); ok {
			m.keepText(name, text)
			unread, paths, _ := strings.Cut(text, "\x00")
			return artifacts{strings.FieldsFunc(paths, func(r rune) bool { return r == 0 }), unread}, nil
		}
	}
	ref := sha
	if ref == "" {
		ref = r.GetDefaultBranch()
	}
	out, err := r.binaries(ctx, ref)
	if err != nil {
		return artifacts{}, err
	}
	slices.Sort(out.found)
	if sha != "" && m != nil {
		m.keepText(name, out.unread+"\x00"+strings.Join(out.found, "\x00"))
	}
	return out, nil
}

// binaries looks at all files of a commit.
func (r *repository) binaries(ctx context.Context, ref string) (out artifacts, err error) {
	files, err := r.acct.blobs(ctx, r.owner(), r.GetName(), ref)
	if errors.Is(err, errTree) {
		out.unread = err.Error() + ", so that its archive may lack some"
	} else if err != nil {
		return out, fmt.Errorf("list the files: %w", err)
	}
	archive, err := r.acct.archive(ctx, r.owner(), r.GetName(), ref)
	if err != nil {
		return out, err
	}
	defer archive.Close()
	if out.found, err = binaries(archive, maxArchive, files); err != nil {
		return out, fmt.Errorf("read the archive: %w", err)
	}
	more, left, err := r.acct.readBlobs(ctx, r.owner(), r.GetName(), files)
	if err != nil {
		return out, fmt.Errorf("read what the archive lacks: %w", err)
	}
	if left > 0 {
		out.unread = fmt.Sprintf("the archive that GitHub makes lacks %d files of it, or has them otherwise (.gitattributes), and they are too many to be read by themselves", left)
	}
	out.found = append(out.found, more...)
	return out, nil
}

// binaries reads a gzipped tar archive, whose files are in one folder, as
// GitHub makes them, of less than most bytes, and returns the paths of what is a
// binary artifact. It takes those of files away that are in it as they should be.
func binaries(archive io.Reader, most int64, files map[string]blob) ([]string, error) {
	z, err := gzip.NewReader(archive)
	if err != nil {
		return nil, err
	}
	left := &io.LimitedReader{R: z, N: most}
	t := tar.NewReader(left)
	var found []string
	size := 0
	head := make([]byte, sniffed)
	for n := 0; ; n++ {
		h, err := t.Next()
		if left.N <= 0 || n > maxFiles {
			return nil, errors.New("it is too large") // what is cut may end like what is whole
		}
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		_, name, _ := strings.Cut(h.Name, "/")
		if h.Typeflag != tar.TypeReg || h.Size == 0 || name == "" {
			continue
		}
		got, err := io.ReadFull(t, head)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		binary := isBinary(name, head[:got])
		if want, ok := files[name]; ok && !binary {
			is := newContent(want, h.Size)
			is.Write(head[:got])
			if _, err := io.Copy(is, t); err != nil {
				return nil, err
			}
			if is.same() {
				delete(files, name)
				binary = isBinary(name, is.head) // other line ends may hide what it is
			}
		}
		if binary {
			delete(files, name)
			if size += len(name); len(found) == maxFound || size > maxNames {
				return nil, fmt.Errorf("it has more than %d binary artifacts, or their paths are too long", maxFound)
			}
			found = append(found, name)
		}
	}
}

// magics begin the files of programs and packages of them.
var magics = [][]byte{
	[]byte("\x7fELF"),
	[]byte("\xca\xfe\xba\xbe"),                                                                                     // Java classes; Mach-O of several architectures
	[]byte("\xfe\xed\xfa\xce"), []byte("\xfe\xed\xfa\xcf"), []byte("\xce\xfa\xed\xfe"), []byte("\xcf\xfa\xed\xfe"), // Mach-O
	[]byte("\x00asm"),                // WebAssembly
	[]byte("dex\n"), []byte("dey\n"), // Android
	[]byte("\xed\xab\xee\xdb"), // RPM
	[]byte("!<arch>\n"),        // static libraries, Debian packages
	[]byte("Cr24"),             // Chrome extensions
}

// extensions are of such files, where their content isn't text.
var extensions = []string{
	".a", ".apk", ".bundle", ".class", ".crx", ".deb", ".dex", ".dey", ".dll", ".drv", ".dylib", ".efi", ".elf", ".exe", ".iso", ".jar", ".ko", ".lib",
	".macho", ".msi", ".o", ".ocx", ".par", ".pyc", ".pyo", ".rpm", ".so", ".sys", ".war", ".wasm", ".whl",
}

// isBinary reports whether a file, by its path and its first bytes, is a program
// or a package of programs.
func isBinary(name string, head []byte) bool {
	for _, m := range magics {
		if bytes.HasPrefix(head, m) {
			return true
		}
	}
	if isPE(head) {
		return true
	}
	base := strings.ToLower(path.Base(name))
	ext := path.Ext(base)
	if !slices.Contains(extensions, ext) && !strings.Contains(base, ".so.") {
		return false
	}
	return !isText(head)
}

// isPE reports whether a file is a program of Windows: MZ, and where its header
// says, if that is near, PE.
func isPE(head []byte) bool {
	if len(head) < 64 || head[0] != 'M' || head[1] != 'Z' {
		return false
	}
	at := int(head[60]) | int(head[61])<<8 | int(head[62])<<16 | int(head[63])<<24
	return at > len(head)-4 && at < 1<<24 || at >= 0 && at <= len(head)-4 && bytes.Equal(head[at:at+4], []byte("PE\x00\x00"))
}

// isText reports whether the beginning of a file has no control characters that
// texts don't have, in whatever encoding.
func isText(head []byte) bool {
	return !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\v\f\r\x1b", r) })
}
