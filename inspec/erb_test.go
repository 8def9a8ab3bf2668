package inspec_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"reeve.dev/reeve/inspec"
)

func metadata(text string) (*inspec.Profile, error) {
	return inspec.LoadFS(fstest.MapFS{"inspec.yml": &fstest.MapFile{Data: []byte(text)}, "controls/a.rb": &fstest.MapFile{}})
}

func TestLoad_erb(t *testing.T) {
	p, err := metadata(`name: small
version: <%= [1, 2].join('.') %>.0
<%# a note %>
<% if ENV['NOWHERE'] %>
title: never
<% else %>
title: "it's 50 <%% \\ <%= 'of'.upcase %>"
<% end %>
maintainer: <%= ENV['HOME'] || 'no environment' %>
`)
	if err != nil {
		t.Fatal(err)
	}
	m := p.Metadata()
	if m.Version != "1.2.0" || m.Title != `it's 50 <% \ OF` || m.Maintainer != "no environment" {
		t.Errorf("%+v", m)
	}
}

func TestLoad_erbThatFails(t *testing.T) {
	for text, want := range map[string]string{
		"name: x\ntitle: <%= nil.strip %>\n":                                      "inspec.yml:2: ERB: undefined method `strip' for nil:NilClass",
		"name: x\n\ntitle: <%= 1 + %>\n":                                          "inspec.yml:3: ERB: syntax error",
		"name: x\ntitle: <%= File.read('/a') %>":                                  "inspec.yml:2: ERB: File.read is not available to a profile",
		"name: <% loop {} %>":                                                     "ERB: evaluation passed its limit of steps",
		"name: <%= 'x' * 10**9 %>":                                                "ERB: evaluation passed its limit of memory",
		"name: x\ninputs: [{name: p, type: Numeric, value: \"<%= ENV['P'] %>\"}]": `input p: "" is not of type Numeric`,
	} {
		if _, err := metadata(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}
