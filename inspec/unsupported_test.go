package inspec_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/inspec"
)

func TestProfile_Unsupported(t *testing.T) {
	p, err := inspec.Load(write(t, map[string]string{
		"inspec.yml": "name: top\ndepends:\n  - {name: base, path: base}\n",
		"controls/a.rb": `
require 'json'
require 'aws-sdk'
def helper(x) = x
control 'good' do
  only_if { virtualization.system != 'docker' }
  rows = passwd.where { user == 'root' && uid =~ /0/ }
  let_it = helper(own.n)
  describe rows do
    let(:given) { 1 }
    subject(:named) { 2 }
    its('count') { should cmp 1 }
    it { should be_anything.or have_whatever }
    it { expect(given).to be_own named }
    it { is_expected.to eq Own.new(nil) }
  end
end
control 'typed wrong' do
  descibe file('/etc/passwd') do
    it { shold exist }
  end
end
control 'not here' do
  describe opa(content: '{}') do
    its('x') { should eq Missing::Thing }
  end
  describe inspec.opa do
    it { should exist }
  end
  x = ` + "`id`" + `
end
`,
		"controls/b.rb":          "control 'unread' do\n  title 'it's'\nend\n",
		"libraries/own.rb":       "class Own < Inspec.resource(1)\n  name 'own'\n  def n = 7\nend\nRSpec::Matchers.define :be_own do |x|\n  match { true }\nend\n",
		"base/inspec.yml":        "name: base\n",
		"base/controls/c.rb":     "control('below') { frobnicate 1 }\n",
		"base/libraries/down.rb": "raise 'no way'\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	all, err := p.Unsupported(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range all {
		got = append(got, u.String())
	}
	want := []string{
		"top/controls/b.rb:2: control unread: syntax error, unexpected \"s\"",
		"base/libraries/down.rb:1: RuntimeError: no way",
		"top/controls/a.rb:3: the library aws-sdk is not there",
		"top/controls/a.rb:19: control typed wrong: nothing is called descibe: no resource, matcher or function",
		"top/controls/a.rb:20: control typed wrong: nothing is called shold: no resource, matcher or function",
		"top/controls/a.rb:24: control not here: the resource opa is not supported",
		"top/controls/a.rb:25: control not here: there is no constant Missing",
		"top/controls/a.rb:27: control not here: the resource opa is not supported",
		"top/controls/a.rb:30: control not here: running a command with backticks is not supported",
		"base/controls/c.rb:1: control below: nothing is called frobnicate: no resource, matcher or function",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unsupported (-want +got):\n%s", diff)
	}
}
