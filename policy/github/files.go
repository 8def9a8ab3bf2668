package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	gh "github.com/google/go-github/v89/github"

	"reeve.dev/reeve/policy"
)

// Where Allstar's files are.
const (
	orgRepo  = ".allstar"
	orgRepo2 = ".github"
	orgDir   = "allstar" // in orgRepo2
	repoDir  = ".allstar"
	botFile  = "allstar.yaml"
	// maxListed is how many entries of a folder the contents API lists.
	maxListed = 1000
)

// optConfig says which repositories are checked. Each layer has its own.
type optConfig struct {
	OptOutStrategy      bool     `key:"optOutStrategy" layer:"org"`
	OptInRepos          []string `key:"optInRepos" layer:"org"`
	OptOutRepos         []string `key:"optOutRepos" layer:"org"`
	OptOutPrivateRepos  bool     `key:"optOutPrivateRepos" layer:"org"`
	OptOutPublicRepos   bool     `key:"optOutPublicRepos" layer:"org"`
	OptOutArchivedRepos bool     `key:"optOutArchivedRepos" layer:"org"`
	OptOutForkedRepos   bool     `key:"optOutForkedRepos" layer:"org"`
	DisableRepoOverride bool     `key:"disableRepoOverride" layer:"org"`
	OptIn               bool     `key:"optIn" layer:"repo"`
	OptOut              bool     `key:"optOut" layer:"repo"`
}

// botSettings is allstar.yaml beside its optConfig.
type botSettings struct {
	IssueLabel   string   `key:"issueLabel" layer:"always"`
	IssueRepo    string   `key:"issueRepo" layer:"org"`
	IssueFooter  string   `key:"issueFooter" layer:"org"`
	IssueDetails string   `key:"issueDetails" layer:"org"`
	Schedule     *silence `key:"schedule" layer:"always"`
	RPCEndpoint  string   `key:"rpcEndpoint"`
	permit       func(string) error
}

// silence is Allstar's schedule: days on which nobody is told that something
// failed.
type silence struct {
	Timezone string   `key:"timezone"`
	Days     []string `key:"days"`
}

const maxSilentDays = 3

// schedule is the silence as far as it can be understood.
func (s *silence) schedule() policy.Schedule {
	if s == nil {
		return policy.Schedule{}
	}
	return policy.Schedule{TimeZone: s.Timezone, Days: s.Days}
}

func (b *botSettings) validate(report func(key, text string)) {
	if s := b.Schedule; s != nil {
		if _, err := time.LoadLocation(s.Timezone); err != nil {
			report("schedule.timezone", fmt.Sprintf("%q is no time zone, such as Europe/Berlin; UTC is taken", s.Timezone))
			s.Timezone = ""
		}
		s.Days = slices.DeleteFunc(s.Days, func(d string) bool {
			err := policy.Schedule{Days: []string{d}}.Validate()
			if err != nil {
				report("schedule.days", fmt.Sprintf("%q is no day of the week, such as saturday; it is left out", d))
			}
			return err != nil
		})
		if len(s.Days) > maxSilentDays {
			report("schedule.days", fmt.Sprintf("there may be %d days; the first ones hold", maxSilentDays))
			s.Days = s.Days[:maxSilentDays]
		}
	}
	if b.IssueRepo != "" && !repoName(b.IssueRepo) {
		report("issueRepo", fmt.Sprintf("%q is no name of a repository of the organisation; issues go to the repository that they are about", b.IssueRepo))
		b.IssueRepo = ""
	}
	if b.RPCEndpoint != "" && b.permit != nil {
		if err := b.permit(b.RPCEndpoint); err != nil {
			report("rpcEndpoint", err.Error())
		}
	}
}

func repoName(s string) bool {
	return s != "" && len(s) <= 100 && s != "." && s != ".." && !strings.ContainsAny(s, "/ \t\n\\?#%:")
}

// layered is one file in all layers that were read.
type layered struct {
	docs []document
	// broken are the layers whose file is there but can't be understood, and has
	// no earlier version that could.
	broken map[Layer]bool
}

// orgFiles are an organisation's files.
type orgFiles struct {
	acct *account
	repo string // "" if the organisation has none
	dir  string
	// entries are the files and folders of dir; some may be missing unless
	// whole.
	entries  map[string]string
	whole    bool
	layers   map[string]*layered // by the file's name
	problems []Problem
	permit   func(endpoint string) error
}

// readOrg reads an organisation's files.
func readOrg(ctx context.Context, a *account, m *memory, permit func(string) error) (*orgFiles, error) {
	ctx = remembering(ctx, m)
	f := &orgFiles{acct: a, layers: map[string]*layered{}, permit: permit}
	for _, place := range []struct{ repo, dir string }{{orgRepo, ""}, {orgRepo2, orgDir}} {
		_, _, err := a.client.Repositories.Get(ctx, a.login, place.repo)
		if status(err) == http.StatusNotFound {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find the organisation's configuration: %w", plain(err))
		}
		f.repo, f.dir = place.repo, place.dir
		break
	}
	if f.repo == "" {
		return f, nil
	}
	var err error
	if f.entries, f.whole, err = a.walk(ctx, f.repo, f.dir, ""); err != nil {
		return nil, fmt.Errorf("list the organisation's configuration: %w", err)
	}
	for _, name := range fileNames() {
		f.layers[name] = &layered{broken: map[Layer]bool{}}
		if !hasFile(f.entries, f.whole, name) {
			continue
		}
		at := path.Join(f.dir, name)
		doc, found, err := a.document(ctx, m, OrgLayer, a.login, f.repo, at, &f.problems, f.layers[name])
		if err != nil {
			return nil, err
		}
		if !found {
			continue
		}
		if base := doc.base(); base != "" {
			if err := f.addBase(ctx, m, doc, base, at, name); err != nil {
				return nil, err
			}
		}
		f.layers[name].docs = append(f.layers[name].docs, doc)
	}
	// What is wrong with the organisation's own files is said once, and not for
	// each of its repositories.
	for _, name := range fileNames() {
		_, ps := f.resolve(name, nil, nil)
		f.problems = append(f.problems, ps...)
	}
	return f, nil
}

// addBase reads the file that doc names as its baseConfig.
func (f *orgFiles) addBase(ctx context.Context, m *memory, doc document, base, at, name string) error {
	// What can't be had isn't what it may have turned on: it holds as it last was.
	without := func(text string) {
		p := Problem{Layer: OrgLayer, File: doc.file, Key: "baseConfig", Text: text + ", and its checks stay on"}
		if last, ok := lastGood(m, BaseLayer, base+":"+at); ok {
			f.layers[name].docs = append(f.layers[name].docs, last)
			p.Text = text + "; its last version that could be read holds on"
		} else {
			f.layers[name].broken[BaseLayer] = true
		}
		f.problems = append(f.problems, p)
	}
	owner, repo, ok := strings.Cut(base, "/")
	if !ok || !login.MatchString(owner) || !repoName(repo) {
		without(fmt.Sprintf("%.200q must be OWNER/REPO; it isn't followed", base))
		return nil
	}
	from, found, err := f.acct.document(ctx, m, BaseLayer, owner, repo, at, &f.problems, f.layers[name])
	switch {
	case err != nil && status(err) >= 400 && status(err) < 500:
		without(fmt.Sprintf("%s/%s can't be read: %v", owner, repo, err))
		return nil
	case err != nil:
		return err
	case found:
		f.layers[name].docs = append(f.layers[name].docs, from)
	case !f.layers[name].broken[BaseLayer]:
		without(fmt.Sprintf("%s/%s has no %s", owner, repo, at))
	}
	return nil
}

// walk lists a folder, from the top, since GitHub validates only what is there:
// asking for what isn't would cost a request each time. An entry's value is its
// type.
func (a *account) walk(ctx context.Context, repo, dir, ref string) (entries map[string]string, whole bool, err error) {
	at := ""
	for {
		entries, whole, err = a.list(ctx, a.login, repo, at, ref)
		if err != nil || at == dir {
			return entries, whole, err
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(dir, at), "/"), "/")
		if whole && entries[next] != "dir" {
			return nil, true, nil
		}
		at = path.Join(at, next)
	}
}

// list is one folder; an absent one is empty.
func (a *account) list(ctx context.Context, owner, repo, dir, ref string) (map[string]string, bool, error) {
	var opts *gh.RepositoryContentGetOptions
	if ref != "" {
		opts = &gh.RepositoryContentGetOptions{Ref: ref}
	}
	_, list, _, err := a.client.Repositories.GetContents(ctx, owner, repo, dir, opts)
	if status(err) == http.StatusNotFound {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, plain(err)
	}
	entries := make(map[string]string, len(list))
	for _, e := range list {
		entries[e.GetName()] = e.GetType()
	}
	return entries, len(list) < maxListed, nil
}

// hasFile reports whether a folder may have a file of that name: a symbolic
// link can lead to one, and what a list leaves out must be asked for.
func hasFile(entries map[string]string, whole bool, name string) bool {
	switch entries[name] {
	case "file", "symlink":
		return true
	case "":
		return !whole
	}
	return false
}

// file is a file's text; false if there is none.
func (a *account) file(ctx context.Context, owner, repo, at, ref string) (string, bool, error) {
	var opts *gh.RepositoryContentGetOptions
	if ref != "" {
		opts = &gh.RepositoryContentGetOptions{Ref: ref}
	}
	c, _, _, err := a.client.Repositories.GetContents(ctx, owner, repo, at, opts)
	if status(err) == http.StatusNotFound || err == nil && c == nil {
		return "", false, nil
	}
	if err != nil {
		return "", false, plain(err)
	}
	text, err := c.GetContent()
	if err != nil || c.GetType() != "file" {
		return "", true, fmt.Errorf("%s/%s:%s: %w", owner, repo, at, errUnreadable)
	}
	return text, true, nil
}

// errUnreadable means that GitHub doesn't give out a file's text.
var errUnreadable = errors.New("it isn't a text of at most a megabyte")

// document reads one file of configuration. One that can't be understood is
// reported, and its last version that could holds on; without one, its layer is
// broken.
func (a *account) document(ctx context.Context, m *memory, layer Layer, owner, repo, at string, problems *[]Problem, into *layered) (document, bool, error) {
	text, found, err := a.file(ctx, owner, repo, at, "")
	unreadable := errors.Is(err, errUnreadable)
	if err != nil && !unreadable || !found {
		return document{}, false, err
	}
	name := owner + "/" + repo + ":" + at
	doc := document{}
	if err = errUnreadable; !unreadable {
		doc, err = parse(layer, name, text)
	}
	if err == nil {
		m.keepText(name, text)
		return doc, true, nil
	}
	why := err
	p := Problem{Layer: layer, File: name, Text: "it can't be understood, and its checks stay on: " + err.Error()}
	defer func() { *problems = append(*problems, p) }()
	if last, ok := lastGood(m, layer, name); ok {
		p.Text = "it can't be understood; its last version that could holds on: " + why.Error()
		return last, true, nil
	}
	into.broken[layer] = true
	return document{}, false, nil
}

// lastGood is the last version of a file that could be understood.
func lastGood(m *memory, layer Layer, name string) (document, bool) {
	last, ok := m.text(name)
	if !ok {
		return document{}, false
	}
	doc, err := parse(layer, name, last)
	if err != nil {
		return document{}, false
	}
	m.keepText(name, last)
	return doc, true
}

// repoFiles are the files for one repository, in both places.
type repoFiles struct {
	layers   map[string]*layered
	problems []Problem
}

// readRepo reads the files for a repository: those that the organisation keeps,
// and the repository's own.
func (f *orgFiles) readRepo(ctx context.Context, m *memory, repo string, root folder) (*repoFiles, error) {
	out := &repoFiles{layers: map[string]*layered{}}
	for _, name := range fileNames() {
		out.layers[name] = &layered{broken: map[Layer]bool{}}
	}
	read := func(ctx context.Context, layer Layer, in, dir string) error {
		entries, whole, err := f.acct.list(ctx, f.acct.login, in, dir, "")
		if err != nil {
			return err
		}
		for _, name := range fileNames() {
			if !hasFile(entries, whole, name) {
				continue
			}
			doc, found, err := f.acct.document(ctx, m, layer, f.acct.login, in, path.Join(dir, name), &out.problems, out.layers[name])
			if err != nil {
				return err
			}
			if found {
				out.layers[name].docs = append(out.layers[name].docs, doc)
			}
		}
		return nil
	}
	if f.repo != "" && (f.entries[repo] == "dir" || !f.whole && f.entries[repo] == "") {
		// What the repository's commit stands for isn't in the organisation's.
		if err := read(holds(ctx, "", false), OrgRepoLayer, f.repo, path.Join(f.dir, repo)); err != nil {
			return nil, err
		}
	}
	// The organisation's repository has its own files in its folder .allstar, as
	// any other.
	if kind := root.entries[repoDir]; kind == "dir" || kind == "" && !root.whole {
		if err := read(ctx, RepoLayer, repo, repoDir); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// options are the optConfig of each layer of one file.
type options struct {
	org, orgRepo, repo optConfig
	broken             map[Layer]bool
}

// resolve applies all layers of a file to settings, a pointer to a struct of
// defaults; nil takes the file's usual one. With repo nil it is for the
// organisation as a whole, and the problems are those of its own files;
// otherwise they are those of the files for the repository.
func (f *orgFiles) resolve(name string, repo *repoFiles, settings any) (options, []Problem) {
	if settings == nil {
		settings = defaultsOf(name)
	}
	if b, ok := settings.(*botSettings); ok {
		b.permit = f.permit
	}
	o := options{broken: map[Layer]bool{}}
	var problems []Problem
	apply := func(l *layered) {
		if l == nil {
			return
		}
		for layer := range l.broken {
			o.broken[layer] = true
		}
		for i, d := range l.docs {
			opt := map[Layer]*optConfig{OrgRepoLayer: &o.orgRepo, RepoLayer: &o.repo}[d.layer]
			if opt == nil {
				opt = &o.org
			}
			if d.layer == OrgLayer && i > 0 {
				d.reset = defaultsOf(name)
			}
			r := d.apply(opt, settings, d.layer == RepoLayer && o.org.DisableRepoOverride)
			if r.brokenOpt {
				o.broken[d.layer] = true
			}
			if (repo == nil) == d.layer.ofOrg() {
				problems = append(problems, r.problems...)
			}
		}
	}
	apply(f.layers[name])
	if repo != nil {
		apply(repo.layers[name])
	}
	return o, problems
}

// enabled reports whether a repository is to be checked. A layer that can't be
// understood counts as one that asks for it.
func (o options) enabled(r *gh.Repository) bool {
	org, orgRepo, repo := o.org, o.orgRepo, o.repo
	if o.broken[OrgLayer] || o.broken[BaseLayer] {
		org.OptOutStrategy, org.DisableRepoOverride = true, true
	}
	if o.broken[OrgRepoLayer] {
		orgRepo = optConfig{OptIn: true}
	}
	if o.broken[RepoLayer] {
		repo = optConfig{OptIn: true}
	}
	if !org.OptOutStrategy {
		return matches(org.OptInRepos, r.GetName()) || orgRepo.OptIn || !org.DisableRepoOverride && repo.OptIn
	}
	return !matches(org.OptOutRepos, r.GetName()) &&
		!(org.OptOutPrivateRepos && r.GetPrivate()) && !(org.OptOutPublicRepos && !r.GetPrivate()) &&
		!(org.OptOutArchivedRepos && r.GetArchived()) && !(org.OptOutForkedRepos && r.GetFork()) &&
		!orgRepo.OptOut && !(!org.DisableRepoOverride && repo.OptOut)
}

func (o *optConfig) validate(report func(key, text string)) {
	for _, l := range []struct {
		key  string
		list []string
	}{{"optInRepos", o.OptInRepos}, {"optOutRepos", o.OptOutRepos}} {
		for i, p := range l.list {
			if _, err := glob(p); err != nil {
				report(fmt.Sprintf("optConfig.%s[%d]", l.key, i), fmt.Sprintf("%.100q: %v; it is for no repository", p, err))
			}
		}
	}
}
