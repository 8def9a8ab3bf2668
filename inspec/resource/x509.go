package resource

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"reeve.dev/reeve/inspec/ruby"
)

// certificateRes is one X.509 certificate.
type certificateRes struct {
	path string
	cert *x509.Certificate
}

// oidNames are OpenSSL's short names of what a name is made of.
var oidNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.4": "SN", "2.5.4.5": "serialNumber", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.9": "street",
	"2.5.4.10": "O", "2.5.4.11": "OU", "2.5.4.12": "title", "2.5.4.42": "GN", "1.2.840.113549.1.9.1": "emailAddress",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// signatureNames are OpenSSL's names of signature algorithms.
var signatureNames = map[x509.SignatureAlgorithm]string{
	x509.MD5WithRSA: "md5WithRSAEncryption", x509.SHA1WithRSA: "sha1WithRSAEncryption", x509.SHA256WithRSA: "sha256WithRSAEncryption",
	x509.SHA384WithRSA: "sha384WithRSAEncryption", x509.SHA512WithRSA: "sha512WithRSAEncryption", x509.ECDSAWithSHA1: "ecdsa-with-SHA1",
	x509.ECDSAWithSHA256: "ecdsa-with-SHA256", x509.ECDSAWithSHA384: "ecdsa-with-SHA384", x509.ECDSAWithSHA512: "ecdsa-with-SHA512",
	x509.PureEd25519: "ED25519", x509.SHA256WithRSAPSS: "rsassaPss", x509.SHA384WithRSAPSS: "rsassaPss", x509.SHA512WithRSAPSS: "rsassaPss",
}

// keyUsages are OpenSSL's words, by bit.
var keyUsages = []string{"Digital Signature", "Non Repudiation", "Key Encipherment", "Data Encipherment", "Key Agreement", "Certificate Sign", "CRL Sign", "Encipher Only", "Decipher Only"}

var extendedUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageServerAuth: "TLS Web Server Authentication", x509.ExtKeyUsageClientAuth: "TLS Web Client Authentication",
	x509.ExtKeyUsageCodeSigning: "Code Signing", x509.ExtKeyUsageEmailProtection: "E-mail Protection", x509.ExtKeyUsageTimeStamping: "Time Stamping",
	x509.ExtKeyUsageOCSPSigning: "OCSP Signing", x509.ExtKeyUsageAny: "Any Extended Key Usage",
}

func defineX509(s *Set) {
	openSSL := s.in.DefineModule(nil, "OpenSSL")
	sslX509 := s.in.DefineModule(openSSL, "X509")
	badCert := s.in.DefineClass(sslX509, "CertificateError", s.in.Class("StandardError"))
	k := s.define("x509_certificate", "X509CertificateResource", nil, func(c *ruby.Call) (any, error) {
		if err := s.arity(c, 1, 1); err != nil {
			return nil, err
		}
		d := &certificateRes{}
		var content string
		if opts, ok := c.Args[0].(*ruby.Hash); ok {
			if v, ok := opts.GetSym("filepath"); ok && v != nil {
				d.path = c.In.ToS(v)
			}
			if v, ok := opts.GetSym("content"); ok && v != nil {
				content = c.In.ToS(v)
			}
		} else {
			d.path = c.In.ToS(c.Args[0])
		}
		c.Self.(*ruby.Object).SetIVar("@filepath", str(d.path))
		if content == "" {
			var err error
			if content, err = s.readFile(d.path, false); err != nil {
				return nil, err
			}
		}
		der := []byte(content)
		if strings.Contains(content, "-----BEGIN") || content[0] != 0x30 {
			block, _ := pem.Decode(der)
			if block == nil {
				return nil, s.in.Raise(badCert, "PEM_read_bio_X509: no start line")
			}
			der = block.Bytes
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, s.in.Raise(badCert, "%s", err)
		}
		d.cert = cert
		return d, nil
	})
	k.Def("to_s", func(c *ruby.Call) (ruby.Value, error) {
		o := c.Self.(*ruby.Object)
		name := c.In.ToS(o.IVar("@filepath"))
		if d, ok := o.Data.(*certificateRes); ok && name == "" {
			name = d.cert.Subject.CommonName
		}
		return str("x509_certificate " + name), nil
	})
	get := func(name string, of func(cert *x509.Certificate) (ruby.Value, error)) {
		def(k, name, func(c *ruby.Call, d *certificateRes) (ruby.Value, error) { return of(d.cert) })
	}
	moment := func(t time.Time) (ruby.Value, error) {
		return s.in.Call(s.in.Class("Time"), "at", []ruby.Value{t.Unix()}, nil)
	}
	mash := func(h *ruby.Hash) (ruby.Value, error) {
		return s.in.Call(s.in.Class("Hashie::Mash"), "new", []ruby.Value{h}, nil)
	}
	def(k, "resource_id", func(c *ruby.Call, d *certificateRes) (ruby.Value, error) {
		if d.path != "" {
			return str(d.path), nil
		}
		return str(d.cert.Subject.CommonName), nil
	})
	get("certificate?", func(*x509.Certificate) (ruby.Value, error) { return true, nil })
	get("valid?", func(c *x509.Certificate) (ruby.Value, error) {
		now := time.Now()
		return !now.Before(c.NotBefore) && !now.After(c.NotAfter), nil
	})
	get("validity_in_days", func(c *x509.Certificate) (ruby.Value, error) { return time.Until(c.NotAfter).Hours() / 24, nil })
	get("not_before", func(c *x509.Certificate) (ruby.Value, error) { return moment(c.NotBefore) })
	get("not_after", func(c *x509.Certificate) (ruby.Value, error) { return moment(c.NotAfter) })
	get("version", func(c *x509.Certificate) (ruby.Value, error) { return int64(c.Version - 1), nil })
	get("serial", func(c *x509.Certificate) (ruby.Value, error) {
		if c.SerialNumber.IsInt64() {
			return c.SerialNumber.Int64(), nil
		}
		return c.SerialNumber, nil
	})
	get("fingerprint", func(c *x509.Certificate) (ruby.Value, error) {
		h := sha1.Sum(c.Raw)
		return str(hex.EncodeToString(h[:])), nil
	})
	get("signature_algorithm", func(c *x509.Certificate) (ruby.Value, error) {
		if n, ok := signatureNames[c.SignatureAlgorithm]; ok {
			return str(n), nil
		}
		return nil, s.fail("the certificate's signature algorithm isn't known")
	})
	get("subject_dn", func(c *x509.Certificate) (ruby.Value, error) { return str(distinguished(c.Subject)), nil })
	get("issuer_dn", func(c *x509.Certificate) (ruby.Value, error) { return str(distinguished(c.Issuer)), nil })
	get("subject", func(c *x509.Certificate) (ruby.Value, error) { return mash(nameHash(c.Subject)) })
	get("issuer", func(c *x509.Certificate) (ruby.Value, error) { return mash(nameHash(c.Issuer)) })
	get("email", func(c *x509.Certificate) (ruby.Value, error) {
		v, _ := nameHash(c.Subject).Get(str("emailAddress"))
		return v, nil
	})
	length := func(c *x509.Certificate) (ruby.Value, error) {
		switch key := c.PublicKey.(type) {
		case *rsa.PublicKey:
			return int64((key.N.BitLen() + 7) / 8 * 8), nil
		case *ecdsa.PublicKey:
			return int64(key.Curve.Params().BitSize), nil
		}
		return nil, s.fail("the length of the certificate's key isn't known")
	}
	get("key_length", length)
	get("keylength", length)
	get("extensions", func(c *x509.Certificate) (ruby.Value, error) { return mash(extensions(c)) })
	get("subject_alt_names", func(c *x509.Certificate) (ruby.Value, error) {
		v, _ := extensions(c).Get(str("subjectAltName"))
		return v, nil
	})
}

// distinguished writes a name as OpenSSL does on one line: /CN=x/O=y.
func distinguished(n pkix.Name) string {
	var b strings.Builder
	for _, a := range n.Names {
		fmt.Fprintf(&b, "/%s=%v", oidName(a), a.Value)
	}
	return b.String()
}

func oidName(a pkix.AttributeTypeAndValue) string {
	if name, ok := oidNames[a.Type.String()]; ok {
		return name
	}
	return a.Type.String()
}

func nameHash(n pkix.Name) *ruby.Hash {
	h := ruby.NewHash()
	for _, a := range n.Names {
		h.Set(str(oidName(a)), str(fmt.Sprint(a.Value)))
	}
	return h
}

// extensions are the certificate's, each a list of OpenSSL's words; those that
// it lacks are empty lists.
func extensions(c *x509.Certificate) *ruby.Hash {
	h := ruby.NewHash()
	for _, name := range []string{
		"keyUsage", "extendedKeyUsage", "basicConstraints", "subjectKeyIdentifier", "authorityKeyIdentifier", "subjectAltName", "issuerAltName",
		"authorityInfoAccess", "crlDistributionPoints", "issuingDistributionPoint", "certificatePolicies", "policyConstraints", "nameConstraints",
		"noCheck", "tlsfeature", "nsComment",
	} {
		h.Set(str(name), ruby.NewArray())
	}
	critical := map[string]bool{}
	for _, e := range c.Extensions {
		critical[e.Id.String()] = e.Critical
	}
	set := func(name, oid string, words []string) {
		if _, there := critical[oid]; !there {
			return
		}
		if critical[oid] {
			words = append([]string{"critical"}, words...)
		}
		h.Set(str(name), ruby.Strings(words))
	}
	var usage, extended, alt []string
	for i, word := range keyUsages {
		if c.KeyUsage&(1<<i) != 0 {
			usage = append(usage, word)
		}
	}
	for _, u := range c.ExtKeyUsage {
		extended = append(extended, extendedUsages[u])
	}
	for _, u := range c.UnknownExtKeyUsage {
		extended = append(extended, u.String())
	}
	for _, n := range c.DNSNames {
		alt = append(alt, "DNS:"+n)
	}
	for _, ip := range c.IPAddresses {
		alt = append(alt, "IP Address:"+ip.String())
	}
	for _, e := range c.EmailAddresses {
		alt = append(alt, "email:"+e)
	}
	for _, u := range c.URIs {
		alt = append(alt, "URI:"+u.String())
	}
	basic := []string{"CA:" + strings.ToUpper(fmt.Sprint(c.IsCA))}
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		basic = append(basic, fmt.Sprintf("pathlen:%d", c.MaxPathLen))
	}
	set("keyUsage", "2.5.29.15", usage)
	set("extendedKeyUsage", "2.5.29.37", extended)
	set("basicConstraints", "2.5.29.19", basic)
	set("subjectAltName", "2.5.29.17", alt)
	set("subjectKeyIdentifier", "2.5.29.14", []string{colonHex(c.SubjectKeyId)})
	set("authorityKeyIdentifier", "2.5.29.35", []string{colonHex(c.AuthorityKeyId)})
	return h
}

func colonHex(b []byte) string {
	parts := make([]string, len(b))
	for i, x := range b {
		parts[i] = fmt.Sprintf("%02X", x)
	}
	return strings.Join(parts, ":")
}
