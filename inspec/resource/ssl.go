package resource

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
	"reeve.dev/reeve/inspec/target"
)

// cipherList names the cipher suites of TLS (IANA's registry), SSL 3 (RFC 6101)
// and SSL 2 by their codes, one a line.
//
//go:embed ciphers.txt
var cipherList string

// sslProtocol is a version and the suites that are offered for it.
type sslProtocol struct {
	name    string
	version uint16
	suites  []suite
}

type suite struct{ code, name string }

// sslProtocols are InSpec's, in its order.
func sslProtocols() []sslProtocol {
	list := []sslProtocol{
		{"ssl2", 0x0002, nil}, {"ssl3", 0x0300, nil}, {"tls1.0", 0x0301, nil}, {"tls1.1", 0x0302, nil}, {"tls1.2", 0x0303, nil}, {"tls1.3", 0x0304, nil},
	}
	for line := range strings.Lines(cipherList) {
		code, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		isTLS := strings.HasPrefix(name, "TLS_")
		for i := range list {
			var offered bool
			switch list[i].name {
			case "ssl2":
				offered = strings.HasPrefix(name, "SSL_CK_")
			case "ssl3":
				offered = len(code) == 4
			case "tls1.0", "tls1.1":
				offered = isTLS && strings.HasPrefix(code, "00")
			case "tls1.2":
				offered = isTLS
			case "tls1.3":
				offered = isTLS && strings.HasPrefix(code, "13")
			}
			if offered {
				list[i].suites = append(list[i].suites, suite{code, name})
			}
		}
	}
	return list
}

// sslRes is a server that is greeted from the target, as the target would
// reach it.
type sslRes struct {
	host, port string
	timeout    int64
}

func defineSSL(s *Set) {
	k := s.define("ssl", "SSL", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 0, 1); err != nil {
			return nil, err
		}
		d := &sslRes{host: "localhost", port: "443", timeout: 5}
		for name, to := range map[string]*string{"host": &d.host, "port": &d.port} {
			if v, _ := options(c).GetSym(name); v != nil {
				*to = c.In.ToS(v)
			}
		}
		if v, _ := options(c).GetSym("timeout"); v != nil {
			d.timeout = max(1, leadingInt(c.In.ToS(v)))
		}
		return d, nil
	})
	text(k, func(d *sslRes) string { return "SSL/TLS on " + d.host + ":" + d.port }, nil)
	def(k, "host", func(_ *ruby.Call, d *sslRes) (ruby.Value, error) { return str(d.host), nil })
	def(k, "port", func(_ *ruby.Call, d *sslRes) (ruby.Value, error) { return intOrText(d.port), nil })
	greet := func(r *rows) (*ruby.Hash, error) {
		d, ok := r.resource.(*ruby.Object).Data.(*sslRes)
		if !ok {
			return ruby.NewHash(), nil
		}
		return s.handshakes(d, r.data)
	}
	cols := append(textColumns("ciphers", "cipher", "protocols", "protocol"),
		column{name: "handshake", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) { return greet(r) }},
		column{name: "enabled?", native: func(_ *ruby.Call, _ *ruby.Object, r *rows) (ruby.Value, error) {
			all, err := greet(r)
			if err != nil {
				return nil, err
			}
			enabled := false
			all.Each(func(_, v ruby.Value) error {
				ok, _ := v.(*ruby.Hash).Get(str("success"))
				enabled = enabled || ruby.Truthy(ok)
				return nil
			})
			return enabled, nil
		}})
	filterTable(s, k, cols, func(*sslRes) ([]*ruby.Hash, error) {
		var rows []*ruby.Hash
		for _, p := range sslProtocols() {
			for _, c := range p.suites {
				rows = append(rows, ruby.NewHash(str("protocol"), str(p.name), str("cipher"), str(c.name)))
			}
		}
		return rows, nil
	})
}

// handshakes greets the server once for each protocol among the rows, with
// their ciphers, and says of each whether the server agreed.
func (s *Set) handshakes(d *sslRes, rows []*ruby.Hash) (*ruby.Hash, error) {
	wanted := map[string]bool{}
	for _, row := range rows {
		protocol, _ := row.Get(str("protocol"))
		cipher, _ := row.Get(str("cipher"))
		wanted[s.in.ToS(protocol)+" "+s.in.ToS(cipher)] = true
	}
	out := ruby.NewHash()
	for _, p := range sslProtocols() {
		var codes []byte
		for _, c := range p.suites {
			if wanted[p.name+" "+c.name] {
				code, err := hex.DecodeString(c.code)
				if err != nil {
					return nil, err
				}
				codes = append(codes, code...)
			}
		}
		if codes == nil {
			continue
		}
		answer, err := s.exchange(d, clientHello(p.version, d.host, codes))
		if err != nil {
			return nil, err
		}
		out.Set(str(p.name), ruby.NewHash(str("success"), agreed(p.version, answer)))
	}
	return out, nil
}

// exchange sends bytes to the server from the target and returns the record
// that comes back; what is cut short is as long as it came.
func (s *Set) exchange(d *sslRes, hello []byte) ([]byte, error) {
	var octal strings.Builder
	for _, b := range hello {
		fmt.Fprintf(&octal, `\%03o`, b)
	}
	script := `exec 3<>"/dev/tcp/$1/$2" || exit 66
printf "$3" >&3
h=$(head -c 5 <&3 | od -An -tx1 -v | tr -d " \n"); echo "$h"
case $h in 16*) n=$((16#${h:6:4})) ;; *) n=64 ;; esac
head -c "$n" <&3 | od -An -tx1 -v`
	// A server that neither answers nor hangs up is no server of that protocol.
	out, err := s.run("timeout %d bash -c %s bash %s %s %s", d.timeout, target.Quote(script), target.Quote(d.host), target.Quote(d.port), target.Quote(octal.String()))
	if err != nil {
		return nil, err
	}
	switch out.ExitStatus {
	case 66:
		return nil, s.in.Raise(s.in.Class("RuntimeError"), "Connection error, can't connect to %s:%s.", d.host, d.port)
	case 126, 127:
		return nil, s.fail("the target needs bash, timeout, head and od to greet a server: %s", strings.TrimSpace(string(out.Stderr)))
	}
	answer, err := hex.DecodeString(strings.Join(strings.Fields(string(out.Stdout)), ""))
	if err != nil {
		return nil, s.fail("the answer of %s:%s could not be read: %s", d.host, d.port, err)
	}
	return answer, nil
}

// clientHello is the first message of a client (RFC 8446, 4.1.2; for SSL 2
// draft-hickman-netscape-ssl-00). What would be random is a digest, so that
// the same question is the same command.
func clientHello(version uint16, host string, codes []byte) []byte {
	random := sha256.Sum256(append([]byte(host), codes...))
	u16 := binary.BigEndian.AppendUint16
	if version == 0x0002 {
		m := u16([]byte{1}, version)
		m = u16(u16(u16(m, uint16(len(codes))), 0), 16)
		m = append(append(m, codes...), random[:16]...)
		return append(u16(nil, uint16(len(m))|0x8000), m...)
	}
	legacy := min(version, 0x0303)
	m := append(u16(nil, legacy), random[:]...)
	m = append(u16(append(m, 0), uint16(len(codes))), codes...)
	m = append(m, 1, 0) // no compression
	ext := extensionsFor(version, host)
	m = append(u16(m, uint16(len(ext))), ext...)
	m = append([]byte{1, 0, byte(len(m) >> 8), byte(len(m))}, m...)
	return append(u16(append([]byte{0x16}, byte(legacy>>8), byte(legacy)), uint16(len(m))), m...)
}

func extensionsFor(version uint16, host string) []byte {
	if version <= 0x0300 {
		return nil
	}
	u16 := binary.BigEndian.AppendUint16
	var all []byte
	add := func(kind uint16, body ...byte) { all = append(u16(u16(all, kind), uint16(len(body))), body...) }
	name := append(u16([]byte{0}, uint16(len(host))), host...)
	add(0, append(u16(nil, uint16(len(name))), name...)...)              // server_name
	add(13, 0, 18, 4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 8, 6, 6, 1, 2, 1) // signature_algorithms
	add(10, 0, 6, 0, 29, 0, 23, 0, 24)                                   // supported_groups: x25519, P-256, P-384
	if version < 0x0304 {
		add(11, 1, 0) // ec_point_formats
		return all
	}
	add(43, 2, 3, 4) // supported_versions
	// A public key of x25519 whose private half nobody keeps: any 32 bytes are one.
	key := sha256.Sum256([]byte(host))
	add(51, append([]byte{0, 36, 0, 29, 0, 32}, key[:]...)...)
	return all
}

var errShort = errors.New("the answer is cut short")

// agreed reports whether an answer is a server's hello of that version.
func agreed(version uint16, answer []byte) bool {
	if version == 0x0002 {
		// Length with its high bit, SERVER-HELLO, hit, type, version.
		return len(answer) >= 7 && answer[0]&0x80 != 0 && answer[2] == 4 && binary.BigEndian.Uint16(answer[5:]) == version
	}
	got, err := serverVersion(answer)
	return err == nil && got == version
}

// serverVersion reads the version out of a record with a ServerHello.
func serverVersion(record []byte) (uint16, error) {
	if len(record) < 5+4+2+32+1 || record[0] != 0x16 || record[5] != 2 {
		return 0, errShort
	}
	version := binary.BigEndian.Uint16(record[9:])
	rest := record[43:]
	skip := 1 + int(rest[0]) + 3 // session, cipher suite, compression
	if len(rest) < skip {
		return 0, errShort
	}
	if rest = rest[skip:]; len(rest) < 2 {
		return version, nil
	}
	ext := rest[2:]
	ext = ext[:min(len(ext), int(binary.BigEndian.Uint16(rest)))]
	for len(ext) >= 4 {
		kind, n := binary.BigEndian.Uint16(ext), int(binary.BigEndian.Uint16(ext[2:]))
		if len(ext) < 4+n {
			break
		}
		if kind == 43 && n == 2 {
			version = binary.BigEndian.Uint16(ext[4:])
		}
		ext = ext[4+n:]
	}
	return version, nil
}
