package resource

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"

	"reeve.dev/reeve/inspec/ruby"
)

func defineKeys(s *Set) {
	defineKeyRSA(s)
	defineDHParams(s)
	definePrivateKey(s)
}

// rsaKey is the public half, and the private one where the file has it.
type rsaKey struct {
	public  *rsa.PublicKey
	private *rsa.PrivateKey
}

func defineKeyRSA(s *Set) {
	k := s.define("key_rsa", "RsaKey", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		path, _ := argString(c, 0)
		c.Self.(*ruby.Object).SetIVar("@key_path", str(path))
		content, err := s.readFile(path, true)
		if err != nil {
			return nil, err
		}
		passphrase, _ := argString(c, 1)
		d, err := parseRSA([]byte(content), passphrase)
		if err != nil {
			return nil, s.fail("%s", err)
		}
		return d, nil
	})
	path := func(c *ruby.Call) string { return c.In.ToS(c.Self.(*ruby.Object).IVar("@key_path")) }
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return str("rsa_key " + path(c)), nil })
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return str(path(c)), nil })
	def(k, "public?", func(*ruby.Call, *rsaKey) (ruby.Value, error) { return true, nil })
	def(k, "private?", func(_ *ruby.Call, d *rsaKey) (ruby.Value, error) { return d.private != nil, nil })
	def(k, "public_key", func(_ *ruby.Call, d *rsaKey) (ruby.Value, error) { return s.publicPEM(d.public) })
	def(k, "private_key", func(_ *ruby.Call, d *rsaKey) (ruby.Value, error) {
		if d.private == nil {
			return s.publicPEM(d.public)
		}
		block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(d.private)}
		return str(string(pem.EncodeToMemory(block))), nil
	})
	def(k, "key_length", func(_ *ruby.Call, d *rsaKey) (ruby.Value, error) { return int64(d.public.Size() * 8), nil })
}

func (s *Set) publicPEM(key *rsa.PublicKey) (ruby.Value, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, s.fail("%s", err)
	}
	return str(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))), nil
}

// errPassphrase is all that InSpec says of a key that can't be read.
var errPassphrase = errors.New("passphrase error")

func parseRSA(content []byte, passphrase string) (*rsaKey, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, errPassphrase
	}
	der := block.Bytes
	if block.Type == "ENCRYPTED PRIVATE KEY" {
		return nil, errors.New("the key is encrypted as PKCS#8, which can't be read here: test it with command('openssl pkey …')")
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		var err error
		//lint:ignore SA1019 old keys are what this resource is asked of
		if der, err = x509.DecryptPEMBlock(block, []byte(passphrase)); err != nil {
			return nil, errPassphrase
		}
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(der)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(der)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(der)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(der)
	default:
		return nil, errPassphrase
	}
	if err != nil {
		return nil, errPassphrase
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return &rsaKey{&key.PublicKey, key}, nil
	case *rsa.PublicKey:
		return &rsaKey{key, nil}, nil
	}
	return nil, errors.New("this isn't an RSA key")
}

// dhParams are the parameters of a Diffie-Hellman exchange.
type dhParams struct{ P, G *big.Int }

// maxPrime bounds the primes that are looked at, in bits.
const maxPrime = 16384

func defineDHParams(s *Set) {
	pkey := s.in.DefineModule(s.in.DefineModule(nil, "OpenSSL"), "PKey")
	bad := s.in.DefineClass(pkey, "DHError", s.in.Class("StandardError"))
	k := s.define("dh_params", "DhParams", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		path, _ := argString(c, 0)
		c.Self.(*ruby.Object).SetIVar("@dh_params_path", str(path))
		content, err := s.readFile(path, false)
		if err != nil {
			return nil, err
		}
		d := &dhParams{}
		block, _ := pem.Decode([]byte(content))
		if block == nil || block.Type != "DH PARAMETERS" {
			return nil, s.in.Raise(bad, "could not parse pkey: unsupported")
		}
		if _, err := asn1.Unmarshal(block.Bytes, d); err != nil || d.P.Sign() <= 0 || d.P.BitLen() > maxPrime {
			return nil, s.in.Raise(bad, "could not parse pkey: unsupported")
		}
		return d, nil
	})
	path := func(c *ruby.Call) string { return c.In.ToS(c.Self.(*ruby.Object).IVar("@dh_params_path")) }
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) { return str("dh_params " + path(c)), nil })
	k.Def("resource_id", func(c *ruby.Call) (ruby.Value, error) { return str(path(c)), nil })
	def(k, "dh_params?", func(*ruby.Call, *dhParams) (ruby.Value, error) { return true, nil })
	def(k, "generator", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) { return bigOrInt(d.G.String(), 10), nil })
	def(k, "prime_length", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) { return int64(d.P.BitLen()), nil })
	def(k, "modulus", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) {
		return str("00:" + strings.ToLower(colonHex(d.P.Bytes()))), nil
	})
	def(k, "pem", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) {
		der, err := asn1.Marshal(*d)
		if err != nil {
			return nil, s.fail("%s", err)
		}
		return str(string(pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: der}))), nil
	})
	def(k, "text", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) {
		return nil, s.fail("text is OpenSSL's own print of the parameters: test modulus, generator or prime_length instead")
	})
	def(k, "valid?", func(_ *ruby.Call, d *dhParams) (ruby.Value, error) {
		one := big.NewInt(1)
		half := new(big.Int).Rsh(d.P, 1)
		inRange := d.G.Cmp(one) > 0 && d.G.Cmp(new(big.Int).Sub(d.P, one)) < 0
		return inRange && d.P.ProbablyPrime(0) && half.ProbablyPrime(0), nil
	})
}

// privateKeyRes is a key that the target's own openssl is asked of.
type privateKeyRes struct{ openssl, path, passphrase string }

// firstCommand is the first of these that the target has.
func (s *Set) firstCommand(names ...string) (string, error) {
	for _, name := range names {
		if there, err := s.commandExists(name); err != nil || there {
			return name, err
		}
	}
	return "", nil
}

// tool finds a program in the folders of system tools or on the PATH.
func (s *Set) tool(name, missing string) (string, error) {
	found, err := s.firstCommand("/usr/sbin/"+name, "/sbin/"+name, name)
	if err == nil && found == "" {
		err = s.fail("%s", missing)
	}
	return found, err
}

func definePrivateKey(s *Set) {
	k := s.define("x509_private_key", "X509PrivateKey", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 2); err != nil {
			return nil, err
		}
		d := &privateKeyRes{}
		d.path, _ = argString(c, 0)
		d.passphrase, _ = argString(c, 1)
		var err error
		d.openssl, err = s.tool("openssl", "Could not find `openssl` on your system.")
		return d, err
	})
	fixed(k, "x509_private_key")
	pass := func(d *privateKeyRes) string {
		if d.passphrase == "" {
			return ""
		}
		return " -passin pass:" + shellEscape(d.passphrase)
	}
	def(k, "secret_key_path", func(_ *ruby.Call, d *privateKeyRes) (ruby.Value, error) { return str(d.path), nil })
	def(k, "valid?", func(_ *ruby.Call, d *privateKeyRes) (ruby.Value, error) {
		out, err := s.ask("openssl", d.openssl+" rsa -in "+d.path+" -check -noout"+pass(d))
		return out.ExitStatus == 0, err
	})
	def(k, "encrypted?", func(_ *ruby.Call, d *privateKeyRes) (ruby.Value, error) {
		text, ok, err := s.readOptional(d.path)
		if err == nil && !ok {
			err = s.fail("The given secret key %s does not exist.", d.path)
		}
		return strings.Contains(text, "Proc-Type: 4,ENCRYPTED"), err
	})
	def(k, "has_matching_certificate?", func(c *ruby.Call, d *privateKeyRes) (ruby.Value, error) {
		cert, _ := argString(c, 0)
		var sums []string
		for _, cmd := range []string{
			"openssl x509 -noout -modulus -in " + cert, "openssl rsa -noout -modulus -in " + d.path + pass(d),
		} {
			out, err := s.ask("openssl", cmd)
			if err != nil {
				return nil, err
			}
			// InSpec pipes what there is into a digest, so that two empty
			// answers would match.
			if out.ExitStatus != 0 || len(out.Stdout) == 0 {
				return nil, s.fail("Executing openssl failed: %s", out.Stderr)
			}
			sums = append(sums, string(out.Stdout))
		}
		return sums[0] == sums[1], nil
	})
}
