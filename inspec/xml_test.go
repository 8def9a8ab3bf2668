package inspec_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/hdf"
	"reeve.dev/reeve/inspec"
	"reeve.dev/reeve/inspec/ruby"
)

// An XPath that would go on for hours, and a document that would take the
// process's stack, are errors of their control alone.
func TestRun_xmlWithoutEnd(t *testing.T) {
	limits := ruby.Limits{Steps: 200_000, Depth: 500, Memory: 1 << 26, Time: time.Minute}
	doc := mustRun(t, map[string]string{"controls/a.rb": `
control('slow') { describe(xml(content: '<a>' + '<b/>' * 3000 + '</a>')) { its(['//*[count(//*[count(//*) > 1]) > 1]']) { should be_empty } } }
control('deep') { describe(xml(content: '<a>' * 20_000 + '</a>' * 20_000)) { its(['//b']) { should be_empty } } }
control('odd') { describe(xml(content: '<a/>')) { its(['((((']) { should be_empty } } }
control('good') { describe(xml(content: '<a><b k="1">x</b><b k="2"/></a>')) do
  its(['//b/']) { should eq ['x', nil] }
  its(['//b[@k="2"]/preceding-sibling::b/@k']) { should eq ['1'] }
  its(['count(//b)']) { should eq [2] }
end }
`}, inspec.Options{Limits: limits})
	want := map[string]hdf.Status{"slow": hdf.Error, "deep": hdf.Error, "odd": hdf.Error, "good": hdf.Passed}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
	if m := control(t, doc, "slow").Results[0].Message; !strings.Contains(m, "limit of steps") {
		t.Errorf("the slow XPath: %s", m)
	}
}

// Profiles bring an os resource of their own that is derived from InSpec's, and
// that asks its @platform.
func TestRun_derivedPlatform(t *testing.T) {
	doc := mustRun(t, map[string]string{
		"libraries/os.rb": `
class OSResource < PlatformResource
  name 'os'
  def major = @platform.release.split('.').first
  def kin = [@platform.name, @platform[:family], @platform.linux?, @platform.send('windows?')]
end
`,
		"controls/a.rb": `
control 'derived' do
  describe os do
    its('major') { should eq '12' }
    its('kin') { should eq ['debian', 'debian', true, false] }
    its('family') { should eq 'debian' }
  end
end
`,
	}, inspec.Options{})
	want := map[string]hdf.Status{"derived": hdf.Passed}
	if diff := cmp.Diff(want, judged(doc)); diff != "" {
		t.Errorf("statuses (-want +got):\n%s\n%v", diff, control(t, doc, "derived").Results)
	}
}
