// Package public tells addresses of the Internet from those of a network of
// one's own, so that a name that somebody else has chosen leads to no service
// inside, and not to a cloud's metadata.
package public

import (
	"errors"
	"net/netip"
	"syscall"
)

// ErrPrivate means that an address isn't public.
var ErrPrivate = errors.New("private, loopback and link-local addresses are not allowed here")

// special are ranges beside those that netip tells: they lead to the
// machine's own network, to its cloud's metadata, or to an IPv4 address in
// disguise.
var special = func() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []string{
		"0.0.0.0/8",        // this network, RFC 791
		"100.64.0.0/10",    // carrier-grade NAT, RFC 6598; cloud metadata too
		"192.0.0.0/24",     // protocol assignments, RFC 6890
		"198.18.0.0/15",    // benchmarks, RFC 2544
		"240.0.0.0/4",      // reserved, and broadcast
		"168.63.129.16/32", // Azure's platform, on each of its machines
		"64:ff9b::/96",     // NAT64, RFC 6052
		"64:ff9b:1::/48",   // local NAT64, RFC 8215
		"2002::/16",        // 6to4
		"2001::/32",        // Teredo
		"fec0::/10",        // site-local, deprecated
		"::/96",            // IPv4-compatible, deprecated
		"::ffff:0:0:0/96",  // IPv4-translated, RFC 2765
	} {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}()

// Is reports whether a is an address of the Internet.
func Is(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// Control is for net.Dialer: it returns ErrPrivate for an address that isn't
// public. It judges what is about to be connected to, so that a name gains
// nothing by changing its address.
func Control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !Is(at.Addr()) {
		return ErrPrivate
	}
	return nil
}
