package forward

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"reeve.dev/reeve/fleet"
)

// Birger is what the services file of a Birger agent (oes-birger) comes to.
type Birger struct {
	Annotations map[string]string
	Upstreams   []Upstream
	Incoming    []Incoming
	// Notes say what is handled in another way than Birger does, and which
	// keys mean nothing.
	Notes []string
}

// birgerController is what Birger calls the hub where it names a destination.
const birgerController = "controller"

// birgerKubeconfig is where Birger's agent has its kubeconfig unless the file
// says otherwise.
const birgerKubeconfig = "/app/config/kubeconfig.yaml"

type (
	birgerFile struct {
		AgentInfo struct {
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"agentInfo"`
		Outgoing []birgerOutgoing `yaml:"outgoingServices"`
		Incoming []birgerIncoming `yaml:"incomingServices"`
	}
	birgerOutgoing struct {
		Enabled     bool              `yaml:"enabled"`
		Name        string            `yaml:"name"`
		Type        string            `yaml:"type"`
		Config      birgerConfig      `yaml:"config"`
		Annotations map[string]string `yaml:"annotations"`
		Namespaces  []struct {
			Name       string   `yaml:"name"`
			Namespaces []string `yaml:"namespaces"`
		} `yaml:"namespaces"`
		AccountID  string `yaml:"accountId"`
		AssumeRole string `yaml:"assumeRole"`
	}
	birgerConfig struct {
		URL         string `yaml:"url"`
		Insecure    bool   `yaml:"insecure"`
		KubeConfig  string `yaml:"kubeConfig"`
		Credentials struct {
			Type       string `yaml:"type"`
			Username   string `yaml:"username"`
			Password   string `yaml:"password"`
			Token      string `yaml:"token"`
			SecretName string `yaml:"secretName"`
		} `yaml:"credentials"`
	}
	birgerIncoming struct {
		Name               string `yaml:"name"`
		Port               uint16 `yaml:"port"`
		UseHTTP            bool   `yaml:"useHTTP"`
		ServiceType        string `yaml:"serviceType"`
		Destination        string `yaml:"destination"`
		DestinationService string `yaml:"destinationService"`
	}
)

// ReadBirger reads the services file of a Birger agent, as it is. Passwords
// and tokens inside it are kept in memory. The error lists everything that is
// wrong, by its path in the file, and holds no secret.
func ReadBirger(file string) (Birger, error) {
	f, err := os.Open(file)
	if err != nil {
		return Birger{}, err
	}
	defer f.Close()
	const most = 1 << 20
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return Birger{}, err
	}
	if len(data) > most {
		return Birger{}, fmt.Errorf("%s: more than %d bytes", file, most)
	}
	var in birgerFile
	var tree yaml.Node
	// The decoder's own words may quote a value: only its lines are passed on.
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return Birger{}, fmt.Errorf("%s: it isn't YAML", file)
	}
	var wrong *yaml.TypeError
	if err := tree.Decode(&in); errors.As(err, &wrong) {
		var lines []string
		for _, e := range wrong.Errors {
			line, _, _ := strings.Cut(e, ":")
			lines = append(lines, line)
		}
		return Birger{}, fmt.Errorf("%s: a value isn't of the kind that Birger has there: %s", file, strings.Join(lines, ", "))
	} else if err != nil && tree.Kind != 0 {
		return Birger{}, fmt.Errorf("%s: it isn't a services file of Birger", file)
	}
	b := Birger{Annotations: in.AgentInfo.Annotations}
	b.unknown(&tree)
	var errs []error
	for i, o := range in.Outgoing {
		if err := b.outgoing(o); err != nil {
			errs = append(errs, fmt.Errorf("%s: outgoingServices[%d]: %w", file, i, err))
		}
	}
	for i, o := range in.Incoming {
		if err := b.incoming(o); err != nil {
			errs = append(errs, fmt.Errorf("%s: incomingServices[%d]: %w", file, i, err))
		}
	}
	return b, errors.Join(errs...)
}

func (b *Birger) note(format string, args ...any) {
	b.Notes = append(b.Notes, fmt.Sprintf(format, args...))
}

func (b *Birger) outgoing(o birgerOutgoing) error {
	if !o.Enabled {
		return nil
	}
	u := Upstream{Name: fleet.ServiceName(o.Name), Type: b.serviceType(o.Type), Annotations: maps.Clone(o.Annotations)}
	for key, v := range map[string]string{"accountId": o.AccountID, "assumeRole": o.AssumeRole} {
		if v == "" {
			continue
		}
		if u.Annotations == nil {
			u.Annotations = map[string]string{}
		}
		u.Annotations[key] = v
	}
	c := o.Config
	switch u.Type {
	case fleet.Kubernetes:
		u.KubeConfig = c.KubeConfig
		if _, err := os.Stat(birgerKubeconfig); u.KubeConfig == "" && err == nil {
			u.KubeConfig = birgerKubeconfig
		}
	case AWS:
		aws, err := c.aws()
		if err != nil {
			return err
		}
		u.AWS = aws
	default:
		u.URL, u.Insecure = strings.TrimSuffix(c.URL, "/"), c.Insecure
		if strings.HasPrefix(u.URL, "http://") {
			u.Insecure = false // of no meaning there
		}
		credentials, err := c.credentials()
		if err != nil {
			return err
		}
		u.Credentials = credentials
	}
	if len(o.Namespaces) == 0 {
		b.Upstreams = append(b.Upstreams, u)
		return u.Validate()
	}
	// Each is a service of its own, and its name the one that callers use.
	for i, ns := range o.Namespaces {
		each := u
		each.Name, each.Namespaces = fleet.ServiceName(ns.Name), ns.Namespaces
		if err := each.Validate(); err != nil {
			return fmt.Errorf("namespaces[%d]: %w", i, err)
		}
		b.Upstreams = append(b.Upstreams, each)
	}
	return nil
}

// serviceType is a type of Birger's. What isn't registered is plain HTTP
// there, too, but without the prefix.
func (b *Birger) serviceType(name string) fleet.ServiceType {
	t := fleet.ServiceType(name)
	if _, ok := kindOf(t); ok || t.Validate() != nil {
		return t
	}
	b.note("type %s isn't registered; it is x-%s here: credentials for it name that type", name, name)
	return "x-" + t
}

func (c birgerConfig) aws() (*AWSConfig, error) {
	switch k := c.Credentials; k.Type {
	case "kubernetes-secret":
		if k.SecretName == "" {
			return nil, errors.New("config.credentials.secretName: missing; type kubernetes-secret needs it")
		}
		return &AWSConfig{SecretName: k.SecretName}, nil
	case "iam":
		return &AWSConfig{}, nil
	default:
		return nil, fmt.Errorf("config.credentials.type %q: for aws it must be kubernetes-secret or iam", k.Type)
	}
}

func (c birgerConfig) credentials() (Credentials, error) {
	k := c.Credentials
	out := Credentials{Type: k.Type}
	decode := func(key, text string) (string, error) {
		if text == "" {
			return "", fmt.Errorf("config.credentials.%s: missing; type %s needs it", key, k.Type)
		}
		v, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil {
			return "", fmt.Errorf("config.credentials.%s: it isn't base64", key)
		}
		if s, err := oneLine([]byte(strings.TrimSpace(string(v)))); err == nil {
			return s, nil
		}
		return "", fmt.Errorf("config.credentials.%s: %w", key, errOneLine)
	}
	var err error
	switch k.Type {
	case "", "none":
		if k.SecretName != "" {
			return out, errors.New("config.credentials.secretName: not for type none")
		}
	case "basic", "bearer", "token":
		switch {
		case k.SecretName != "":
			out.SecretName = k.SecretName
		case k.Type == "basic":
			if out.Username, err = decode("username", k.Username); err != nil {
				return out, err
			}
			out.held, err = decode("password", k.Password)
		default:
			out.held, err = decode("token", k.Token)
		}
	default:
		return out, fmt.Errorf("config.credentials.type %q: must be none, basic, bearer or token", k.Type)
	}
	return out, err
}

func (b *Birger) incoming(o birgerIncoming) error {
	i := Incoming{
		Name: o.Name, Port: o.Port, Address: "0.0.0.0",
		// Birger's agent has no certificate to show and serves plain HTTP
		// whatever the key says.
		UseHTTP:            true,
		ServiceType:        b.serviceType(o.ServiceType),
		Destination:        fleet.AgentName(o.Destination),
		DestinationService: fleet.ServiceName(o.DestinationService),
	}
	if o.Destination == birgerController {
		i.Destination = fleet.HubAgent
	}
	if o.Port == 0 {
		return errors.New("port: missing")
	}
	if err := i.Validate(); err != nil {
		return err
	}
	b.note("incomingServices: port %d is open to every address of this machine in plain HTTP, as in Birger; put it into incomingServices of the agent's own configuration to change that", o.Port)
	b.Incoming = append(b.Incoming, i)
	return nil
}

// birgerKeys are the keys that mean something, with [] for each element.
var birgerKeys = []string{
	"agentInfo", "agentInfo.annotations", "agentInfo.annotations.*",
	"outgoingServices", "incomingServices",
	"outgoingServices[].enabled", "outgoingServices[].name", "outgoingServices[].type",
	"outgoingServices[].accountId", "outgoingServices[].assumeRole",
	"outgoingServices[].annotations", "outgoingServices[].annotations.*",
	"outgoingServices[].namespaces", "outgoingServices[].namespaces[].name", "outgoingServices[].namespaces[].namespaces",
	"outgoingServices[].config", "outgoingServices[].config.url", "outgoingServices[].config.insecure",
	"outgoingServices[].config.kubeConfig", "outgoingServices[].config.credentials",
	"outgoingServices[].config.credentials.type", "outgoingServices[].config.credentials.username",
	"outgoingServices[].config.credentials.password", "outgoingServices[].config.credentials.token",
	"outgoingServices[].config.credentials.secretName",
	"incomingServices[].name", "incomingServices[].port", "incomingServices[].useHTTP", "incomingServices[].serviceType",
	"incomingServices[].destination", "incomingServices[].destinationService",
}

// unknown notes the keys that mean nothing. Birger takes no notice of them,
// so they are no reason to refuse a file that works with it.
func (b *Birger) unknown(tree *yaml.Node) {
	var walk func(n *yaml.Node, general, exact string)
	walk = func(n *yaml.Node, general, exact string) {
		switch n.Kind {
		case yaml.DocumentNode:
			for _, c := range n.Content {
				walk(c, general, exact)
			}
		case yaml.SequenceNode:
			for i, c := range n.Content {
				walk(c, general+"[]", fmt.Sprintf("%s[%d]", exact, i))
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				key := n.Content[i].Value
				g, e := strings.TrimPrefix(general+"."+key, "."), strings.TrimPrefix(exact+"."+key, ".")
				if !slices.ContainsFunc(birgerKeys, func(k string) bool {
					return k == g || strings.HasSuffix(k, ".*") && path.Dir(strings.ReplaceAll(k, ".", "/")) == strings.ReplaceAll(general, ".", "/")
				}) {
					b.note("line %d: %s isn't a key of Birger's; it means nothing", n.Content[i].Line, e)
					continue
				}
				walk(n.Content[i+1], g, e)
			}
		}
	}
	walk(tree, "", "")
}
