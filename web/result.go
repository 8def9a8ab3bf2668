package web

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"reeve.dev/reeve/api"
	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/scan"
	"reeve.dev/reeve/threshold"
)

// partHeader is what the script sets to get the part of a view that it is to
// put into a page, and no page around it.
const partHeader = "Reeve-Part"

// worst first: what someone has to act on is on top.
var (
	worst      = []hdf.Status{hdf.Failed, hdf.Error, hdf.Skipped, hdf.Passed}
	severities = []hdf.Severity{hdf.Critical, hdf.High, hdf.Medium, hdf.Low, hdf.None}
)

// families are those of NIST SP 800-53, revision 5.
var families = map[string]string{
	"AC": "Access Control", "AT": "Awareness and Training", "AU": "Audit and Accountability",
	"CA": "Assessment, Authorization and Monitoring", "CM": "Configuration Management", "CP": "Contingency Planning",
	"IA": "Identification and Authentication", "IR": "Incident Response", "MA": "Maintenance", "MP": "Media Protection",
	"PE": "Physical and Environmental Protection", "PL": "Planning", "PM": "Program Management", "PS": "Personnel Security",
	"PT": "Personally Identifiable Information Processing", "RA": "Risk Assessment", "SA": "System and Services Acquisition",
	"SC": "System and Communications Protection", "SI": "System and Information Integrity", "SR": "Supply Chain Risk Management",
}

// findings are a result's controls, made ready once to be shown often. They
// aren't changed after that.
type findings struct {
	doc      *hdf.Results
	rows     []row // worst first
	texts    []string
	profiles []string
	tagged   bool // some control says of which family it is
	size     int64
}

// row is one control. N is its place in findings.rows, which its address has.
type row struct {
	*hdf.Control
	N             int
	Severity      hdf.Severity
	Profile, File string
	Families      []string
}

func newFindings(doc *hdf.Results, size int64) *findings {
	doc.Seal() // whatever the agent's document says of itself
	f := &findings{doc: doc, size: size}
	files := map[*hdf.Profile]map[string]string{}
	for _, one := range doc.Findings() {
		if files[one.Profile] == nil {
			files[one.Profile] = map[string]string{}
			for _, g := range one.Profile.Groups {
				for _, id := range g.Controls {
					files[one.Profile][id] = cmp.Or(g.Title, g.ID)
				}
			}
			f.profiles = append(f.profiles, profileTitle(one.Profile))
		}
		r := row{Control: one.Control, Severity: one.Severity, Profile: profileTitle(one.Profile), File: files[one.Profile][one.Control.ID]}
		for _, tag := range one.Control.TagList("nist") {
			family, _, _ := strings.Cut(tag, "-")
			if _, known := families[family]; known && !slices.Contains(r.Families, family) {
				r.Families = append(r.Families, family)
				f.tagged = true
			}
		}
		f.rows = append(f.rows, r)
	}
	slices.SortStableFunc(f.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(slices.Index(worst, a.Status), slices.Index(worst, b.Status)), cmp.Compare(b.Impact, a.Impact))
	})
	f.texts = make([]string, len(f.rows))
	for i := range f.rows {
		f.rows[i].N = i
		f.texts[i] = searched(f.rows[i].Control)
	}
	return f
}

func profileTitle(p *hdf.Profile) string {
	return strings.TrimSpace(cmp.Or(p.Title, p.Name) + " " + p.Version)
}

// searched is the text of a control that a filter looks at.
func searched(c *hdf.Control) string {
	parts := []string{c.ID, c.Title, c.Desc}
	for _, r := range c.Results {
		parts = append(parts, r.CodeDesc, r.Message)
	}
	return strings.ToLower(strings.Join(parts, "\n"))
}

// keptResults bounds what a resultCache keeps, in bytes of the documents.
const keptResults = 24 << 20

// resultCache keeps the results that were shown last: they never change, and
// whoever opens one asks for many of its controls. It doesn't know who may see
// what; the API is asked for the scan each time.
type resultCache struct {
	mu   sync.Mutex
	kept []keptResult // the one used last at the end
	size int64
}

type keptResult struct {
	id scan.ID
	f  *findings
}

func (c *resultCache) get(id scan.ID) *findings {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.kept, func(k keptResult) bool { return k.id == id })
	if i < 0 {
		return nil
	}
	k := c.kept[i]
	c.kept = append(slices.Delete(c.kept, i, i+1), k)
	return k.f
}

func (c *resultCache) put(id scan.ID, f *findings) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.size > keptResults || slices.ContainsFunc(c.kept, func(k keptResult) bool { return k.id == id }) {
		return
	}
	c.kept = append(c.kept, keptResult{id, f})
	for c.size += f.size; c.size > keptResults; c.kept = slices.Delete(c.kept, 0, 1) {
		c.size -= c.kept[0].f.size
	}
}

// counter counts what is read through it.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

// scanOf asks for the scan that the path names and, if it has results, for
// them.
func (h *handler) scanOf(r *request) (s api.Scan, f *findings, err error) {
	path := "/scans/" + url.PathEscape(r.PathValue("id"))
	if err := r.get(path, nil, &s); err != nil || s.Links.Results == "" {
		return s, nil, err
	}
	if f = h.results.get(s.ID); f != nil {
		return s, f, nil
	}
	err = r.read(path+"/results", nil, func(body io.Reader) error {
		counted := &counter{Reader: body}
		doc, err := hdf.Decode(counted)
		if err == nil {
			f = newFindings(doc, counted.n)
			h.results.put(s.ID, f)
		}
		return err
	})
	return s, f, err
}

type scanView struct {
	api.Scan
	Over   bool
	Result *resultView
}

// resultView is a result as a view shows it.
type resultView struct {
	// ID is the scan's; empty of a file that isn't stored.
	ID       scan.ID
	Platform hdf.Platform
	Profiles []string
	Counts   hdf.Tally
	// Only, Text and By are the filter of the controls and what they are
	// grouped by. Full has each control shown whole.
	Only, Text, By string
	Full           bool
	Tagged         bool
	Shown, All     int
	Tallies        []tally
	Severities     []severityBar
	Groups         []group
}

type group struct {
	Title        string
	N, Bad       int
	Hidden, Open bool
	Rows         []controlView
}

type controlView struct {
	row
	Scan   scan.ID
	Hidden bool
	Whole  bool
}

// tally is how many controls have a status; From is how many come before
// them, for a bar of all.
type tally struct {
	Status  hdf.Status
	N, From int
}

// Dashes and Start are those of t's part of a circle of length 100, which
// begins at its top.
func (v resultView) Dashes(t tally) string {
	part := 100 * float64(t.N) / float64(v.All)
	return fmt.Sprintf("%.2f %.2f", part, 100-part)
}

func (v resultView) Start(t tally) string {
	return fmt.Sprintf("%.2f", 25-100*float64(t.From)/float64(v.All))
}

type severityBar struct {
	Severity hdf.Severity
	N        int
	Tallies  []tally
}

func tallies(rows []row) (out []tally) {
	from := 0
	for _, s := range worst {
		n := 0
		for _, r := range rows {
			if r.Status == s {
				n++
			}
		}
		out = append(out, tally{s, n, from})
		from += n
	}
	return out
}

// view makes f ready for one request. by is severity, status, family or file.
func (f *findings) view(id scan.ID, query url.Values) *resultView {
	v := &resultView{
		ID: id, Platform: f.doc.Platform, Profiles: f.profiles, Counts: hdf.Count(f.doc.Findings()), Tagged: f.tagged, All: len(f.rows),
		Only: query.Get("status"), Text: query.Get("q"), By: query.Get("by"), Full: query.Has("full"), Tallies: tallies(f.rows),
	}
	bySeverity := map[hdf.Severity][]row{}
	for _, r := range f.rows {
		bySeverity[r.Severity] = append(bySeverity[r.Severity], r)
	}
	for _, s := range severities {
		if rows := bySeverity[s]; len(rows) > 0 {
			v.Severities = append(v.Severities, severityBar{s, len(rows), tallies(rows)})
		}
	}
	if v.By == "" {
		v.By = "severity"
		if f.tagged {
			v.By = "family"
		}
	}
	text := strings.ToLower(v.Text)
	at := map[string]int{}
	for i, r := range f.rows {
		hidden := v.Only != "" && v.Only != string(r.Status) || !strings.Contains(f.texts[i], text)
		if !hidden {
			v.Shown++
		}
		title := r.group(v.By)
		n, known := at[title]
		if !known {
			n = len(v.Groups)
			at[title] = n
			v.Groups = append(v.Groups, group{Title: title, Hidden: true})
		}
		g := &v.Groups[n]
		g.N++
		if r.Status == hdf.Failed || r.Status == hdf.Error {
			g.Bad++
		}
		g.Hidden = g.Hidden && hidden
		g.Rows = append(g.Rows, controlView{r, id, hidden, v.Full || id == ""})
	}
	slices.SortStableFunc(v.Groups, func(a, b group) int { return cmp.Compare(rank(v.By, a), rank(v.By, b)) })
	if v.By == "family" || v.By == "file" {
		slices.SortStableFunc(v.Groups, func(a, b group) int {
			return cmp.Or(cmp.Compare(btoi(a.Title == elsewhere), btoi(b.Title == elsewhere)), cmp.Compare(a.Title, b.Title))
		})
	}
	return v
}

// elsewhere is the group of what is in none.
const elsewhere = "Others"

// group is the title of the group that r is in. A control of several families
// is in its first.
func (r row) group(by string) string {
	switch by {
	case "status":
		return string(r.Status)
	case "file":
		return cmp.Or(r.File, elsewhere)
	case "family":
		if len(r.Families) == 0 {
			return elsewhere
		}
		return r.Families[0] + " · " + families[r.Families[0]]
	}
	return string(r.Severity)
}

func rank(by string, g group) int {
	if by == "status" {
		return slices.Index(worst, hdf.Status(g.Title))
	}
	return slices.Index(severities, hdf.Severity(g.Title))
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (h *handler) scan(r *request) (*page, error) {
	v := scanView{}
	var f *findings
	var err error
	if v.Scan, f, err = h.scanOf(r); err != nil {
		return nil, err
	}
	v.Over = v.Scan.Status.Final()
	if f != nil {
		query := r.chosen("status", "q", "by")
		if r.URL.Query().Has("full") {
			query.Set("full", "1")
		}
		v.Result = f.view(v.ID, query)
	}
	return &page{View: "scan", Title: "Scan of " + targetText(v.Target), Data: v}, nil
}

type controlPage struct {
	Scan    api.Scan
	Control controlView
}

// control is one control of a result.
func (h *handler) control(r *request) (*page, error) {
	s, f, err := h.scanOf(r)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || f == nil || n < 0 || n >= len(f.rows) {
		return nil, &problem{Status: http.StatusNotFound, Title: "Not Found", Detail: "The scan has no result with such a control."}
	}
	c := controlPage{s, controlView{row: f.rows[n], Scan: s.ID, Whole: true}}
	return &page{View: "control", Title: c.Control.ID, Data: c, Part: "finding"}, nil
}

// texts are what the filter of a result looks at, in the order of its controls'
// numbers.
func (h *handler) texts() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, f, err := h.scanOf(&request{Request: r, api: h.cfg.API})
		if err == nil && f == nil {
			err = &problem{Status: http.StatusNotFound, Title: "Not Found", Detail: "The scan has no results."}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		var p *problem
		switch {
		case errors.As(err, &p):
			w.WriteHeader(p.Status)
			json.NewEncoder(w).Encode(p)
		case err != nil:
			h.cfg.Logger.ErrorContext(r.Context(), "read the texts of a result", "path", r.URL.Path, "error", err)
			w.WriteHeader(http.StatusInternalServerError)
			json.NewEncoder(w).Encode(problem{Detail: "The hub couldn't read the result; its log says why."})
		default:
			json.NewEncoder(w).Encode(f.texts)
		}
	})
}

type comparisonView struct {
	api.Scan
	Baseline   scan.ID
	Earlier    []api.Point
	Comparison *api.Comparison
	Lists      []changes
}

type changes struct {
	Title, Class string
	Items        []api.Change
}

// compare holds a scan against an earlier one of its target; without one
// chosen, against the one before it.
func (h *handler) compare(r *request) (*page, error) {
	path := "/scans/" + url.PathEscape(r.PathValue("id"))
	v := comparisonView{Baseline: scan.ID(r.chosen("baseline").Get("baseline"))}
	if err := r.get(path, nil, &v.Scan); err != nil {
		return nil, err
	}
	points, err := ask[api.Point](r, "/targets/history", targetQuery(v.Target, v.Scan.Scan.Profile, ""), nil)
	if err != nil {
		return nil, err
	}
	for _, p := range points.Items {
		if p.Scan != v.ID {
			v.Earlier = append(v.Earlier, p)
		}
	}
	query := url.Values{}
	if v.Baseline != "" {
		query.Set("baseline", string(v.Baseline))
	}
	p := &page{View: "compare", Title: "Comparison of " + targetText(v.Target)}
	err = r.get(path+"/comparison", query, &v.Comparison)
	var none *problem
	if errors.As(err, &none) && none.Status == http.StatusNotFound && v.Baseline == "" {
		err = nil // it is the first
	}
	if c := v.Comparison; err == nil && c != nil {
		v.Baseline = c.Baseline.Scan
		v.Lists = []changes{{"New", "failed", c.New}, {"Fixed", "passed", c.Fixed}, {"Changed", "error", c.Changed}, {"Still failing", "failed", c.StillFailing}}
	}
	p.Data = v
	return p, err
}

// targetQuery names a target and how it is scanned to the API.
func targetQuery(t api.ScanTarget, profile, threshold string) url.Values {
	q := url.Values{}
	for k, s := range map[string]string{
		"agent": t.Agent, "namespace": t.Namespace, "pod": t.Pod, "container": t.Container, "uri": t.URI, "profile": profile, "threshold": threshold,
	} {
		if s != "" {
			q.Set(k, s)
		}
	}
	return q
}

// maxFile bounds a result file that is shown and not stored, and a threshold
// with it.
const maxFile = 64 << 20

// file shows a result file that somebody drops on the page. Nothing of it is
// kept.
func (h *handler) file(r *request) (*page, error) {
	f, err := readResult(r.Body)
	if err != nil {
		return nil, &problem{Status: http.StatusUnprocessableEntity, Title: "Not a result", Detail: err.Error()}
	}
	return &page{View: "file", Title: "Result file", Data: f.view("", nil), Part: "result"}, nil
}

// readResult reads a result that comes from anywhere.
func readResult(body io.Reader) (*findings, error) {
	counted := &counter{Reader: body}
	doc, err := hdf.Decode(counted)
	var tooLarge *http.MaxBytesError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &tooLarge):
		return nil, fmt.Errorf("the file is larger than %d MiB; `reeve convert` can make a report of it", maxFile>>20)
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("the file isn't JSON: at byte %d, %w. Results are what `reeve scan --reporter json`, InSpec's reporter json and the SAF tools write", syntax.Offset, syntax)
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errors.New("the file ends before its JSON does: it is cut off. Make or download it again")
	case err != nil:
		return nil, fmt.Errorf("the file isn't a result in the Heimdall Data Format: %w", err)
	}
	f := newFindings(doc, counted.n)
	if len(f.rows) == 0 {
		return nil, errors.New("the file has no controls: it isn't a result in the Heimdall Data Format (profiles[].controls), or of a run that checked nothing")
	}
	return f, nil
}

// trial is what a threshold says of a stored result.
type trial struct {
	Scan     api.Scan
	Findings []threshold.Finding
	Counts   hdf.Tally
}

// try holds a threshold, as it is in a form, against a stored result. It stores
// nothing.
func (h *handler) try(r *request) (*page, error) {
	var asked struct{ Text, Scan string }
	decoder := json.NewDecoder(r.Body)
	if err := decoder.Decode(&asked); err != nil {
		return nil, &problem{Status: http.StatusBadRequest, Title: "Bad Request", Detail: "The form couldn't be read: " + err.Error()}
	}
	t, err := threshold.Parse([]byte(asked.Text))
	if err != nil {
		return nil, &problem{Status: http.StatusUnprocessableEntity, Title: "Not a threshold", Detail: err.Error()}
	}
	if asked.Scan == "" {
		return nil, &problem{Status: http.StatusUnprocessableEntity, Title: "No result", Detail: "Choose a result to try the threshold against."}
	}
	r.SetPathValue("id", asked.Scan)
	s, f, err := h.scanOf(r)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, &problem{Status: http.StatusUnprocessableEntity, Title: "No result", Detail: "That scan has no results; choose a completed one."}
	}
	return &page{View: "threshold", Title: "Trial", Part: "trial", Data: trial{s, t.Check(f.doc), hdf.Count(f.doc.Findings())}}, nil
}

// tags are what a control says of itself beside its text, in order.
func tags(c controlView) []labelled {
	var out []labelled
	for _, k := range slices.Sorted(maps.Keys(c.Tags)) {
		if list := c.TagList(k); len(list) > 0 && len(out) < 40 {
			out = append(out, labelled{k, strings.Join(list, ", ")})
		}
	}
	return out
}

type labelled struct{ Label, Text string }

// waiver is what a control's waiver says, in order.
func waiver(c controlView) []labelled {
	var out []labelled
	for _, k := range slices.Sorted(maps.Keys(c.WaiverData)) {
		out = append(out, labelled{k, fmt.Sprint(c.WaiverData[k])})
	}
	return out
}

// bys are what the controls of a result can be grouped by.
func bys(v *resultView) []string {
	if v.Tagged {
		return []string{"family", "severity", "status", "file"}
	}
	return []string{"severity", "status", "file"}
}
