package pipelines

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// systems are how each system reads its file.
var systems = []struct {
	name  string
	jobs  func(*testing.T, *world) []job
	forms []string // sorted
}{
	{"scripts", scripts, allForms},
	{"GitHub Actions", github, allForms},
	{"GitLab CI", gitlab, allForms},
	{"CircleCI", circleci, allForms},
	{"CircleCI orb", orb, allForms},
	{"Azure DevOps", azure, allForms},
	{"AWS CodeBuild", codebuild, allForms},
	{"Bamboo", bamboo, allForms},
	{"TeamCity", teamcity, allForms},
	{"Jenkins", jenkins, allForms},
	{"Jenkins shared library", jenkinsLibrary, allForms},
	{"Spinnaker", spinnaker, allForms},
	{"Spinnaker custom stage", spinnakerStage, []string{"hub"}},
	{"cron", cron, allForms},
}

var allForms = []string{"container", "direct", "hub"}

// scriptForms are the forms by the names of their scripts.
var scriptForms = map[string]string{"scan": "direct", "container": "container", "hub": "hub"}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// value is a setting or secret of a system's.
func (w *world) value(t *testing.T, name string) string {
	t.Helper()
	v, ok := w.Vars[name]
	if !ok {
		t.Fatalf("nothing is called %s", name)
	}
	return v
}

// settings are the variables that are no secret.
func (w *world) settings() map[string]string {
	out := maps.Clone(w.Vars)
	delete(out, "KUBECONFIG_CONTENT")
	delete(out, "REEVE_TOKEN")
	return out
}

func scripts(t *testing.T, w *world) (jobs []job) {
	for name, form := range scriptForms {
		jobs = append(jobs, job{name: form, form: form, env: w.Vars, steps: []step{{args: []string{"sh", "ci/reeve-" + name + ".sh"}}}})
	}
	return jobs
}

var expression = regexp.MustCompile(`\$\{\{ (\w+)\.(\w+) \}\}`)

func github(t *testing.T, w *world) (jobs []job) {
	var file struct {
		Env  map[string]string
		Jobs map[string]struct {
			Steps []struct {
				Run, If string
				Env     map[string]string
			}
		}
	}
	parse(t, "github-actions/reeve.yml", &file)
	resolve := func(env map[string]string) map[string]string {
		out := map[string]string{}
		for k, v := range env {
			out[k] = expression.ReplaceAllStringFunc(v, func(e string) string {
				m := expression.FindStringSubmatch(e)
				if m[1] == "github" {
					return "7"
				}
				return w.value(t, m[2])
			})
		}
		return out
	}
	for name, j := range file.Jobs {
		out := job{name: name, form: name, env: resolve(file.Env)}
		for _, s := range j.Steps {
			if s.Run != "" {
				out.steps = append(out.steps, step{shell: bash, script: s.Run, env: resolve(s.Env), always: s.If == "always()"})
			}
		}
		jobs = append(jobs, out)
	}
	return jobs
}

func gitlab(t *testing.T, w *world) (jobs []job) {
	file := map[string]yaml.Node{}
	parse(t, "gitlab-ci/.gitlab-ci.yml", file)
	var variables map[string]string
	if n := file["variables"]; n.Decode(&variables) != nil {
		t.Fatal("no variables")
	}
	for name, n := range file {
		var j struct {
			Variables   map[string]string
			Script      []string
			AfterScript []string `yaml:"after_script"`
		}
		if n.Kind != yaml.MappingNode || n.Decode(&j) != nil || j.Script == nil {
			continue
		}
		out := job{name: name, form: name, env: maps.Clone(w.Vars)}
		for _, vars := range []map[string]string{variables, j.Variables} {
			for k, v := range vars {
				out.env[k] = os.Expand(v, func(name string) string { return map[string]string{"CI_JOB_ID": "7"}[name] })
			}
		}
		out.steps = []step{{shell: bash, script: strings.Join(j.Script, "\n")}}
		if j.AfterScript != nil {
			out.steps = append(out.steps, step{shell: bash, script: strings.Join(j.AfterScript, "\n"), always: true})
		}
		jobs = append(jobs, out)
	}
	return jobs
}

// circleRun is CircleCI's step run.
type circleRun struct {
	Run struct {
		Command, When string
		Environment   map[string]string
	}
}

// circleSteps are the steps run among others.
func circleSteps(t *testing.T, nodes []yaml.Node) (steps []step) {
	for _, n := range nodes {
		var s circleRun
		if n.Kind != yaml.MappingNode {
			continue // checkout
		}
		if err := n.Decode(&s); err != nil {
			t.Fatal(err)
		}
		if s.Run.Command != "" {
			steps = append(steps, step{shell: bash, script: s.Run.Command, env: s.Run.Environment, always: s.Run.When == "always"})
		}
	}
	return steps
}

func circleci(t *testing.T, w *world) (jobs []job) {
	var file struct {
		Jobs map[string]struct {
			Environment map[string]string
			Steps       []yaml.Node
		}
		Workflows map[string]struct {
			Jobs []map[string]struct{ Context string }
		}
	}
	parse(t, "circleci/config.yml", &file)
	for _, list := range file.Workflows["compliance"].Jobs {
		for name, in := range list {
			if in.Context != "reeve" {
				t.Errorf("job %s has no context", name)
			}
			env := maps.Clone(w.Vars)
			env["CIRCLE_WORKFLOW_JOB_ID"] = "7"
			maps.Copy(env, file.Jobs[name].Environment)
			jobs = append(jobs, job{name: name, form: name, env: env, steps: circleSteps(t, file.Jobs[name].Steps)})
		}
	}
	return jobs
}

var parameter = regexp.MustCompile(`<< parameters\.(\w+) >>`)

func orb(t *testing.T, w *world) (jobs []job) {
	var file struct {
		Commands map[string]struct {
			Parameters map[string]struct {
				Default string
				Enum    []string
			}
			Steps []yaml.Node
		}
	}
	parse(t, "circleci/orb.yml", &file)
	c := file.Commands["scan"]
	for _, form := range c.Parameters["form"].Enum {
		given := map[string]string{"form": form, "namespace": w.Vars["TARGET_NAMESPACE"], "pod": w.Vars["TARGET_POD"], "container": w.Vars["TARGET_CONTAINER"]}
		fill := func(text string) string {
			return parameter.ReplaceAllStringFunc(text, func(p string) string {
				name := parameter.FindStringSubmatch(p)[1]
				if v, ok := given[name]; ok {
					return v
				}
				return c.Parameters[name].Default
			})
		}
		env := maps.Clone(w.Vars)
		for _, name := range []string{"TARGET_NAMESPACE", "TARGET_POD", "TARGET_CONTAINER"} {
			delete(env, name) // the orb's to set
		}
		steps := circleSteps(t, c.Steps)
		for i := range steps {
			steps[i].script = fill(steps[i].script)
			for k, v := range steps[i].env {
				steps[i].env[k] = fill(v)
			}
		}
		jobs = append(jobs, job{name: form, form: scriptForms[form], env: env, steps: steps})
	}
	return jobs
}

var macro = regexp.MustCompile(`\$\(([\w.]+)\)`)

func azure(t *testing.T, w *world) (jobs []job) {
	var file struct {
		Variables []struct{ Group, Name, Value string }
		Jobs      []struct {
			Job   string
			Steps []struct {
				Bash string
				Env  map[string]string
			}
		}
	}
	parse(t, "azure-devops/azure-pipelines.yml", &file)
	env := map[string]string{}
	for _, v := range file.Variables {
		if v.Group == "reeve" {
			maps.Copy(env, w.settings())
		} else {
			env[v.Name] = v.Value
		}
	}
	for _, j := range file.Jobs {
		out := job{name: j.Job, form: j.Job, env: env}
		for _, s := range j.Steps {
			if s.Bash == "" {
				continue
			}
			own := map[string]string{}
			for k, v := range s.Env {
				own[k] = macro.ReplaceAllStringFunc(v, func(m string) string {
					name := macro.FindStringSubmatch(m)[1]
					if strings.Contains(name, ".") {
						return "7" // the system's own
					}
					return w.value(t, name)
				})
			}
			// Azure's bash goes on after a command that fails.
			out.steps = append(out.steps, step{shell: []string{"bash", "--noprofile", "--norc", "-c"}, script: s.Bash, env: own})
		}
		jobs = append(jobs, out)
	}
	return jobs
}

func codebuild(t *testing.T, w *world) (jobs []job) {
	secrets := map[string]string{"reeve/kubeconfig": w.Vars["KUBECONFIG_CONTENT"], "reeve/token": w.Vars["REEVE_TOKEN"]}
	for script, form := range scriptForms {
		var file struct {
			Env struct {
				Variables map[string]string
				Secrets   map[string]string `yaml:"secrets-manager"`
			}
			Phases map[string]struct{ Commands []string }
		}
		parse(t, "aws/buildspec-"+script+".yml", &file)
		out := job{name: form, form: form, env: w.settings()}
		maps.Copy(out.env, file.Env.Variables)
		out.env["CODEBUILD_BUILD_ID"] = "web:7"
		for name, secret := range file.Env.Secrets {
			out.env[name] = secrets[secret]
		}
		for _, phase := range []string{"build", "post_build"} {
			for _, c := range file.Phases[phase].Commands {
				out.steps = append(out.steps, step{shell: sh, script: c, always: phase == "post_build"})
			}
		}
		jobs = append(jobs, out)
	}
	var pipeline struct {
		Parameters map[string]struct {
			Default string `yaml:"Default"`
		} `yaml:"Parameters"`
	}
	parse(t, "aws/codepipeline.yaml", &pipeline)
	if _, err := os.Stat(pipeline.Parameters["BuildSpec"].Default); err != nil {
		t.Errorf("codepipeline.yaml: %v", err)
	}
	return jobs
}

func bamboo(t *testing.T, w *world) (jobs []job) {
	file := map[string]yaml.Node{}
	parse(t, "bamboo/bamboo.yaml", file)
	env := map[string]string{"bamboo_buildResultKey": "SEC-REEVE-7", "bamboo_kubeconfig_secret": w.Vars["KUBECONFIG_CONTENT"], "bamboo_reeve_token_secret": w.Vars["REEVE_TOKEN"]}
	for k, v := range w.settings() {
		env["bamboo_"+strings.ToLower(k)] = v
	}
	var stages []map[string]struct{ Jobs []string }
	if n := file["stages"]; n.Decode(&stages) != nil {
		t.Fatal("no stages")
	}
	for _, name := range stages[0]["Compliance"].Jobs {
		var j struct{ Tasks []yaml.Node }
		if n := file[name]; n.Decode(&j) != nil {
			t.Fatalf("no job %s", name)
		}
		out := job{name: name, form: strings.ToLower(name), env: env}
		for _, n := range j.Tasks {
			var task struct {
				Script struct {
					Interpreter string
					Scripts     []string
				}
			}
			if n.Kind != yaml.MappingNode {
				continue // checkout
			}
			if err := n.Decode(&task); err != nil || task.Script.Interpreter != "SHELL" {
				t.Fatalf("%s: %v", name, err)
			}
			for _, s := range task.Script.Scripts {
				out.steps = append(out.steps, step{shell: sh, script: s})
			}
		}
		jobs = append(jobs, out)
	}
	return jobs
}

var (
	kotlinBuild  = regexp.MustCompile(`(?s)object (\w+) : Compliance\("[^"]*", """\n(.*?)"""\.trimIndent\(\)\) \{(.*?)\n\}`)
	kotlinParam  = regexp.MustCompile(`(param|password)\("env\.(\w+)", "([^"]*)"\)`)
	kotlinOfThis = regexp.MustCompile(`(?s)project \{(.*?)\n\}`)
	kotlinOwn    = regexp.MustCompile(`%[\w.]+%`)
)

func teamcity(t *testing.T, w *world) (jobs []job) {
	text := read(t, "teamcity/settings.kts")
	params := func(block string, into map[string]string) {
		for _, m := range kotlinParam.FindAllStringSubmatch(block, -1) {
			into[m[2]] = m[3]
			if v, ok := w.Vars[m[2]]; ok {
				into[m[2]] = v // what the project's settings say
			}
		}
	}
	for _, m := range kotlinBuild.FindAllStringSubmatch(text, -1) {
		env := map[string]string{}
		params(kotlinOfThis.FindStringSubmatch(text)[1], env)
		params(m[3], env)
		jobs = append(jobs, job{name: m[1], form: strings.ToLower(m[1]), env: env, steps: []step{{shell: sh, script: kotlinOwn.ReplaceAllString(m[2], "7")}}})
	}
	return jobs
}

var (
	groovyParameter  = regexp.MustCompile(`string\(name: '(\w+)'`)
	groovyStage      = regexp.MustCompile(`(?s)stage\('(\w+)'\) \{.*?\n        \}\n`)
	groovyCredential = regexp.MustCompile(`(\w+) = credentials\('([\w-]+)'\)`)
	groovyValue      = regexp.MustCompile(`(\w+) = '([^']*)'`)
	groovyShell      = regexp.MustCompile(`(?s)sh '''(.*?)'''|sh '([^'\n]*)'`)
)

func groovySteps(block string, always bool) (steps []step) {
	for _, m := range groovyShell.FindAllStringSubmatch(block, -1) {
		steps = append(steps, step{shell: shFail, script: m[1] + m[2], always: always})
	}
	return steps
}

func jenkins(t *testing.T, w *world) (jobs []job) {
	text := read(t, "jenkins/Jenkinsfile")
	head, _, _ := strings.Cut(text, "    stages {")
	_, post, _ := strings.Cut(text, "    post {")
	secrets := map[string]string{"reeve-kubeconfig": w.Vars["KUBECONFIG_CONTENT"], "reeve-token": w.Vars["REEVE_TOKEN"]}
	env := w.settings() // of the agent
	for _, name := range []string{"TARGET_NAMESPACE", "TARGET_POD", "TARGET_CONTAINER"} {
		delete(env, name)
	}
	for _, m := range groovyParameter.FindAllStringSubmatch(head, -1) {
		env[m[1]] = w.Vars[m[1]]
	}
	for _, m := range groovyValue.FindAllStringSubmatch(head, -1) {
		env[m[1]] = m[2]
	}
	env["BUILD_TAG"] = "jenkins-web-7"
	for _, m := range groovyStage.FindAllStringSubmatch(text, -1) {
		out := job{name: m[1], form: m[1], env: maps.Clone(env)}
		for _, c := range groovyCredential.FindAllStringSubmatch(m[0], -1) {
			out.env[c[1]] = secrets[c[2]]
		}
		out.steps = append(groovySteps(m[0], false), groovySteps(post, true)...)
		if len(out.steps) != 2 {
			t.Fatalf("stage %s has %d steps", m[1], len(out.steps))
		}
		jobs = append(jobs, out)
	}
	return jobs
}

var (
	groovyArg    = regexp.MustCompile(`"(\w+)=\$\{args\.(\w+)(?: \?: '([^']*)')?\}"`)
	groovySecret = regexp.MustCompile(`def secret = form == 'hub' \? string\(credentialsId: '[\w-]+', variable: '(\w+)'\) : string\(credentialsId: '[\w-]+', variable: '(\w+)'\)`)
)

func jenkinsLibrary(t *testing.T, w *world) (jobs []job) {
	text := read(t, "jenkins/vars/reeveScan.groovy")
	args := map[string]string{"namespace": w.Vars["TARGET_NAMESPACE"], "pod": w.Vars["TARGET_POD"], "container": w.Vars["TARGET_CONTAINER"]}
	secret := groovySecret.FindStringSubmatch(text)
	if secret == nil || !strings.Contains(text, `libraryResource("ci/reeve-${form}.sh")`) {
		t.Fatal("it isn't as this test knows it")
	}
	for script, form := range scriptForms {
		env := w.settings()
		for _, m := range groovyArg.FindAllStringSubmatch(text, -1) {
			env[m[1]] = m[3]
			if v, ok := args[m[2]]; ok {
				env[m[1]] = v
			}
		}
		name := secret[2]
		if form == "hub" {
			name = secret[1]
		}
		env[name], env["BUILD_TAG"] = w.value(t, name), "jenkins-web-7"
		resource := step{shell: sh, script: "cp ci/reeve-" + script + ".sh ci/reeve.sh"} // writeFile
		jobs = append(jobs, job{name: form, form: form, env: env, steps: append([]step{resource}, groovySteps(text, false)...)})
	}
	return jobs
}

// manifest is a Kubernetes Job.
type manifest struct {
	Kind string
	Spec struct {
		BackoffLimit *int `yaml:"backoffLimit"`
		Template     struct {
			Spec struct{ Containers []container }
		}
	}
}

type container struct {
	Image         string
	Command, Args []string
	Env           []struct {
		Name, Value string
		ValueFrom   struct {
			SecretKeyRef struct{ Key string } `yaml:"secretKeyRef"`
		} `yaml:"valueFrom"`
	}
	VolumeMounts []struct{ MountPath string } `yaml:"volumeMounts"`
}

// job is what a Job's container does. Its volume /ci is the folder ci here, and
// its service account what KUBECONFIG_CONTENT holds.
func (m manifest) job(t *testing.T, w *world, name, form string, fill func(string) string) job {
	t.Helper()
	if m.Kind != "Job" || m.Spec.BackoffLimit == nil || *m.Spec.BackoffLimit != 0 {
		t.Fatalf("%s: it isn't a Job that is run once", name)
	}
	c := m.Spec.Template.Spec.Containers[0]
	out := job{name: name, form: form, env: map[string]string{"KUBECONFIG_CONTENT": w.Vars["KUBECONFIG_CONTENT"]}}
	for _, e := range c.Env {
		out.env[e.Name] = fill(e.Value)
		if key := e.ValueFrom.SecretKeyRef.Key; key != "" {
			out.env[e.Name] = w.value(t, key)
		}
	}
	var args []string
	for _, a := range append(slices.Clone(c.Command), c.Args...) {
		args = append(args, fill(strings.Replace(a, "/ci/", "ci/", 1)))
	}
	if len(c.Command) == 0 { // the image's
		if c.Image != image {
			t.Fatalf("%s: image %s", name, c.Image)
		}
		if want := fmt.Sprintf("k8s-container://%s/%s/%s", w.Vars["TARGET_NAMESPACE"], w.Vars["TARGET_POD"], w.Vars["TARGET_CONTAINER"]); args[1] != want {
			t.Fatalf("%s: target %s, want %s", name, args[1], want)
		}
		out.env["SCAN_ARGS"] = strings.Join(args, "\n")
		// The target and threshold of the world in place of those of a pod.
		args = []string{"sh", "-c", `
			set -eu
			KUBECONFIG=$(mktemp); export KUBECONFIG; trap 'rm -f "$KUBECONFIG"' EXIT
			printf '%s\n' "$KUBECONFIG_CONTENT" >"$KUBECONFIG"
			set -f; IFS='
'
			set -- $SCAN_ARGS
			target=${TARGET:-k8s-container://$TARGET_NAMESPACE/$TARGET_POD/$TARGET_CONTAINER}; shift 2
			"$REEVE" scan "$target" "$@" --threshold "${THRESHOLD:-moderate}"`}
	}
	out.steps = []step{{args: args}}
	return out
}

var spel = regexp.MustCompile(`\$\{ (\w+)\.(\w+) \}`)

func spinnaker(t *testing.T, w *world) (jobs []job) {
	var file struct {
		ParameterConfig []struct{ Name string }
		Stages          []struct {
			RefID        string `json:"refId"`
			Type         string
			FailPipeline bool
			Manifest     json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(read(t, "spinnaker/pipeline.json")), &file); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"id": "7", "namespace": w.Vars["TARGET_NAMESPACE"], "pod": w.Vars["TARGET_POD"], "container": w.Vars["TARGET_CONTAINER"]}
	fill := func(text string) string {
		return spel.ReplaceAllStringFunc(text, func(e string) string {
			m := spel.FindStringSubmatch(e)
			v, ok := values[m[2]]
			if !ok {
				t.Errorf("nothing is called %s", e)
			}
			return v
		})
	}
	for _, s := range file.Stages {
		if s.Type != "runJobManifest" || !s.FailPipeline {
			t.Errorf("stage %s: type %s", s.RefID, s.Type)
		}
		var m manifest
		if err := yaml.Unmarshal(s.Manifest, &m); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, m.job(t, w, s.RefID, s.RefID, fill))
	}
	return jobs
}

func spinnakerStage(t *testing.T, w *world) (jobs []job) {
	var file struct {
		Job struct {
			Preconfigured struct {
				Kubernetes []struct {
					Type       string
					Parameters []struct {
						Name, Mapping string
						DefaultValue  string `yaml:"defaultValue"`
					}
					WaitForCompletion bool `yaml:"waitForCompletion"`
					Manifest          manifest
				}
			}
		}
	}
	parse(t, "spinnaker/custom-job-stage.yml", &file)
	for _, s := range file.Job.Preconfigured.Kubernetes {
		env := s.Manifest.Spec.Template.Spec.Containers[0].Env
		for _, p := range s.Parameters {
			var i int
			if _, err := fmt.Sscanf(p.Mapping, "manifest.spec.template.spec.containers[0].env[%d].value", &i); err != nil || env[i].Name != p.Name {
				t.Fatalf("parameter %s is mapped to %s: %v", p.Name, p.Mapping, err)
			}
			env[i].Value = p.DefaultValue
			if v, ok := w.Vars[p.Name]; ok {
				env[i].Value = v
			}
		}
		if !s.WaitForCompletion {
			t.Errorf("stage %s doesn't wait", s.Type)
		}
		jobs = append(jobs, s.Manifest.job(t, w, s.Type, "hub", func(text string) string { return text }))
	}
	return jobs
}

var cronLine = regexp.MustCompile(`(?m)^\d+ \d+ \* \* \* (.*ci/reeve-(\w+)\.sh)$`)

func cron(t *testing.T, w *world) (jobs []job) {
	var env strings.Builder
	for k, v := range w.Vars {
		if strings.HasPrefix(k, "TARGET_") {
			continue // the world's to say
		}
		fmt.Fprintf(&env, "%s='%s'\n", k, v)
	}
	for _, m := range cronLine.FindAllStringSubmatch(read(t, "cron/crontab"), -1) {
		form := scriptForms[m[2]]
		jobs = append(jobs, job{name: form, form: form, env: map[string]string{"ENV_FILE": env.String()}, steps: []step{
			{shell: sh, script: `printf '%s' "$ENV_FILE" >env`},
			{shell: sh, script: strings.Replace(m[1], "cd /srv/reeve && ", "", 1)},
			{shell: sh, script: "rm env", always: true}, // it holds secrets, and is the machine's
		}})
	}
	return jobs
}
