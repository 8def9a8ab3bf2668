package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/audit"
	"reeve.dev/reeve/fleet"
	"reeve.dev/reeve/forward"
	"reeve.dev/reeve/pki"
)

// AuditConfig says where each forwarded request and each change is recorded,
// and for how long.
type AuditConfig struct {
	// Store keeps records in the database, in a chain that can be verified;
	// Log writes forwarded requests to the hub's log, as component=audit.
	Store bool `yaml:"store"`
	Log   bool `yaml:"log"`
	// KeepFor is how long records are in the database; 0 is for ever.
	KeepFor time.Duration `yaml:"keepFor"`
	// Overflow is what happens while records can't be stored as fast as they
	// come: refuse forwards nothing, log writes them to the hub's log.
	Overflow   audit.Overflow  `yaml:"overflow"`
	Recordings RecordingConfig `yaml:"recordings"`
}

// RecordingConfig is of the sessions that a rule has recorded. One that gets
// longer than MaxBytes ends. KeepFor 0 is for ever.
type RecordingConfig struct {
	KeepFor  time.Duration `yaml:"keepFor"`
	MaxBytes int64         `yaml:"maxBytes"`
}

func defaultAudit() AuditConfig {
	const quarter = 90 * 24 * time.Hour
	return AuditConfig{
		Store: true, KeepFor: quarter, Overflow: audit.Refuse,
		Recordings: RecordingConfig{KeepFor: quarter, MaxBytes: audit.DefaultRecording},
	}
}

func (c AuditConfig) validate() error {
	var errs []error
	if c.KeepFor < 0 || c.Recordings.KeepFor < 0 {
		errs = append(errs, errors.New("audit: keepFor must not be negative"))
	}
	if c.Overflow != audit.Refuse && c.Overflow != audit.Spill {
		errs = append(errs, fmt.Errorf("audit.overflow %q: it must be %s or %s", c.Overflow, audit.Refuse, audit.Spill))
	}
	if c.Recordings.MaxBytes < 1<<10 {
		errs = append(errs, fmt.Errorf("audit.recordings.maxBytes %d: it must be at least 1024", c.Recordings.MaxBytes))
	}
	return errors.Join(errs...)
}

// auditing is where what happens is recorded.
type auditing struct {
	log     *audit.Log // nil: not in the database
	spool   *audit.Spool
	forward []forward.Auditor

	mu   sync.Mutex
	seen map[process][sha256.Size]byte // guarded by mu; what agents last registered, summed up
}

// openAudit makes ready to record, and records that the hub starts.
func (h *Hub) openAudit(ctx context.Context, cfg Config, version string, metrics prometheus.Registerer) error {
	log := h.log.With("component", "audit")
	a := &auditing{seen: map[process][sha256.Size]byte{}}
	h.audit = a
	var err error
	if a.spool, err = audit.OpenSpool(ctx, recordingsIn(cfg.DataDir), h.store, cfg.Audit.Recordings.MaxBytes, log); err != nil {
		return fmt.Errorf("dataDir: %w", err)
	}
	if cfg.Audit.Log {
		a.forward = append(a.forward, forward.AuditLog(log))
	}
	if !cfg.Audit.Store {
		return nil
	}
	chain, err := replicaID(cfg.DataDir)
	if err != nil {
		return err
	}
	var clean bool
	a.log, clean, err = audit.Open(ctx, audit.Config{
		Store: h.store, Chain: chain, Sign: h.ca.SignAudit, Overflow: cfg.Audit.Overflow, Keep: cfg.Audit.KeepFor, Logger: log, Registerer: metrics,
		Note: filepath.Join(cfg.DataDir, "audit-anchor"),
	})
	if err != nil {
		return err
	}
	a.forward = append(a.forward, auditStore{a.log})
	details, err := startDetails(ctx, h.store, chain, cfg)
	if err != nil {
		return err
	}
	details["version"] = version
	if !clean {
		details["unclean"] = "the process before this one had no orderly end; what it had yet to record is lost"
	}
	a.log.Add(audit.Record{Kind: audit.Hub, Action: starts, Details: details})
	return nil
}

// recordingsIn is where sessions are recorded that last.
func recordingsIn(dataDir string) string { return filepath.Join(dataDir, "recordings") }

const (
	starts       = "start"
	digestPrefix = "digest."
	nowPrefix    = "now."
)

// startDetails tells what of the configuration isn't as it was at the last
// start. A configuration holds no secrets.
func startDetails(ctx context.Context, s audit.Store, chain string, cfg Config) (map[string]string, error) {
	before := map[string]string{}
	last, err := s.AuditRecords(ctx, audit.Filter{Index: audit.Index{Kind: audit.Hub, Action: starts}, Limit: 100})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(last, func(e audit.Entry) bool { return e.Chain == chain }); i >= 0 {
		r, err := audit.ParseRecord(last[i].Body)
		if err != nil {
			return nil, err
		}
		before = r.Details
	}
	details := map[string]string{}
	v := reflect.ValueOf(cfg)
	var changed []string
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		if key == "-" {
			continue
		}
		text, err := yaml.Marshal(v.Field(i).Interface())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		digest := hex.EncodeToString(sum[:8])
		details[digestPrefix+key] = digest
		if was, ok := before[digestPrefix+key]; ok && was != digest {
			changed = append(changed, key)
			details[nowPrefix+key] = string(text)
		}
	}
	if len(changed) > 0 {
		details["changed"] = strings.Join(changed, " ")
	}
	return details, nil
}

// mostSeen bounds what is known of processes, which name themselves.
const mostSeen = 50_000

// add records what isn't a forwarded request.
func (a *auditing) add(r audit.Record) {
	if a.log != nil {
		a.log.Add(r)
	}
}

// registered records an agent that comes with what it hadn't before. A nil
// auditing records nothing.
func (a *auditing) registered(reg fleet.Registration, remote string) {
	if a == nil || a.log == nil {
		return
	}
	services := make([]string, len(reg.Services))
	for i, s := range reg.Services {
		services[i] = string(s.Type) + "/" + string(s.Name)
	}
	slices.Sort(services)
	details := map[string]string{
		"instance": string(reg.Instance), "version": reg.Version, "hostname": reg.Hostname,
		"services": strings.Join(services, " "), "scanTargets": strings.Join(reg.ScanTargets, " "),
	}
	now, at := sha256.Sum256([]byte(fmt.Sprint(details))), process{reg.Agent, reg.Instance}
	a.mu.Lock()
	same := a.seen[at] == now
	if !same && len(a.seen) >= mostSeen {
		clear(a.seen) // what it forgets is recorded once more
	}
	a.seen[at] = now
	a.mu.Unlock()
	if !same {
		a.add(audit.Record{Kind: audit.Hub, Action: "register", Agent: string(reg.Agent), Actor: agentCaller(reg.Agent), Remote: remote, Details: details})
	}
}

// auditors tells all.
type auditors []forward.Auditor

func (as auditors) Forwarded(ctx context.Context, e forward.Exchange) {
	for _, a := range as {
		a.Forwarded(ctx, e)
	}
}

func (as auditors) Ready(ctx context.Context) error {
	for _, a := range as {
		if err := a.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// auditStore has exchanges recorded in the database.
type auditStore struct{ log *audit.Log }

func (s auditStore) Ready(ctx context.Context) error { return s.log.Ready(ctx) }

func (s auditStore) Forwarded(_ context.Context, e forward.Exchange) {
	r := audit.Record{
		Kind: audit.Request, At: e.At.Add(e.Duration), Took: e.Duration,
		Actor: e.Caller.Name, Credential: e.Caller.ID, Holder: e.Caller.Holder, Remote: e.RemoteAddr,
		Action: e.Verb, Agent: string(e.Caller.Agent), Method: e.Method, Path: e.Path,
		Namespace: e.Namespace, Resource: e.Resource, Name: e.Name, Command: e.Command, User: e.User, Groups: e.Groups,
		Status: e.Status, Received: e.Received, Sent: e.Sent, Rule: e.Rule, Recording: e.Recording,
	}
	if e.Caller.Type != "" {
		r.Service = string(e.Caller.Type) + "/" + string(e.Caller.Service)
	}
	if e.Err != nil {
		r.Error = e.Err.Error()
	}
	if e.Begins {
		r.Details = map[string]string{"stage": "begins"}
	}
	s.log.Add(r)
}

// recorder has sessions recorded in a spool.
type recorder struct{ spool *audit.Spool }

func (r recorder) Record(s forward.Session) (forward.Tape, error) {
	t, err := r.spool.Begin(audit.Recording{
		Actor: s.Caller.Name, Credential: s.Caller.ID, Holder: s.Caller.Holder,
		Agent: string(s.Caller.Agent), Service: string(s.Caller.Type) + "/" + string(s.Caller.Service),
		Namespace: s.Namespace, Pod: s.Pod, Container: s.Container, Command: s.Command,
	})
	if err != nil {
		return nil, err
	}
	return tape{t}, nil
}

// keepTime bounds how long the end of a session may wait for the store.
const keepTime = 30 * time.Second

type tape struct{ *audit.Tape }

func (t tape) Close(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), keepTime)
	defer cancel()
	return t.Tape.Close(ctx, cause)
}

// auditedTokens records who used a one-time token.
type auditedTokens struct {
	pki.TokenStore
	add func(audit.Record)
}

func (t auditedTokens) UseToken(ctx context.Context, id, by string, at time.Time) error {
	err := t.TokenStore.UseToken(ctx, id, by, at)
	r := audit.Record{Kind: audit.Hub, Action: "use-token", Details: map[string]string{"token": id, "by": by}}
	if err != nil {
		r.Error = err.Error()
	}
	t.add(r)
	return err
}

// sweepAudit forgets old recordings.
func (h *Hub) sweepAudit(ctx context.Context, keep time.Duration, log *slog.Logger) {
	if keep == 0 {
		return
	}
	if err := h.store.RemoveRecordings(ctx, time.Now().Add(-keep)); err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "sweep recordings, will retry", "error", err)
	}
}
