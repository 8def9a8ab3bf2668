// Package farnet is a long and bad way through a network, for tests and
// benchmarks that are to show what the kernel's own TCP makes of it: packets
// take their time, are let through at a rate, and get lost.
//
// It is a TUN device in a network namespace, for which a user namespace is
// enough, and no privilege. Whoever listens at [Near] is reached at [Far]: a
// packet for Far is sent back with its two addresses exchanged, so that both
// ends are in one process, and no checksum changes.
package farnet

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses of a path.
const (
	Near = "10.213.0.1" // to listen at
	Far  = "10.213.0.2" // to dial
)

// Config says what a path is like.
type Config struct {
	RTT time.Duration
	// Rate is in bytes per second, each way; packets wait for their turn, as
	// many as the path holds, and then are dropped. 0: no limit.
	Rate float64
	// Loss is the share of packets that are lost.
	Loss float64
	// Buffers is up to what the kernel's TCP may buffer for a connection;
	// 0: what it does by itself.
	Buffers int
}

// Command runs this program again, in a network of its own where Open works.
// It fails to start where the system allows no namespaces.
func Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	return cmd, nil
}

// Path is a path that is up.
type Path struct {
	cfg     Config
	tun     *os.File
	cut     atomic.Bool
	lost    atomic.Int64
	running sync.WaitGroup
}

const mtu = 9000

// Open makes a path, in a network that Command made. There can be one.
func Open(cfg Config) (*Path, error) {
	if cfg.Buffers > 0 {
		for _, name := range []string{"tcp_rmem", "tcp_wmem"} {
			text := fmt.Sprintf("4096 131072 %d", cfg.Buffers)
			if err := os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(text), 0); err != nil {
				return nil, err
			}
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	if err := up(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	p := &Path{cfg: cfg, tun: os.NewFile(uintptr(fd), "tun")}
	// A second of the path's packets, or many.
	way := make(chan packet, max(1<<12, int(cfg.Rate/mtu)))
	p.running.Go(func() {
		defer close(way)
		p.take(way)
	})
	p.running.Go(func() { p.give(way) })
	return p, nil
}

// up gives the device its address.
func up(tun int) error {
	const name = "far"
	dev, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	dev.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, dev); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	for _, step := range []struct {
		what uint
		set  func(*unix.Ifreq) error
	}{
		{unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{10, 213, 0, 1}) }},
		{unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{unix.SIOCSIFMTU, func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }},
		{unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = step.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(s, step.what, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Cut has every packet lost, or none but Loss.
func (p *Path) Cut(cut bool) { p.cut.Store(cut) }

// Lost counts the packets that were lost.
func (p *Path) Lost() int64 { return p.lost.Load() }

// Close takes the path down.
func (p *Path) Close() error {
	err := p.tun.Close()
	p.running.Wait()
	return err
}

type packet struct {
	data []byte
	due  time.Time
}

var packets = sync.Pool{New: func() any { return new([mtu]byte) }}

// take reads what is sent and says when it arrives.
func (p *Path) take(way chan<- packet) {
	free := map[byte]time.Time{} // by destination, when that direction has sent what it was given
	for {
		buf := packets.Get().(*[mtu]byte)
		n, err := p.tun.Read(buf[:])
		if err != nil {
			return
		}
		now := time.Now()
		data := buf[:n]
		if n < 20 || data[0]>>4 != 4 {
			continue // IPv6's greetings
		}
		due := now.Add(p.cfg.RTT / 2)
		// Who listens near sends to Far as well: only the ports tell, and the
		// lower is taken for the listener's.
		if p.cfg.Rate > 0 && n >= 24 {
			dir := byte(0)
			if ihl := int(data[0]&15) * 4; n >= ihl+4 && string(data[ihl:ihl+2]) < string(data[ihl+2:ihl+4]) {
				dir = 1
			}
			at := free[dir]
			if at.Before(now) {
				at = now
			}
			at = at.Add(time.Duration(float64(n) / p.cfg.Rate * 1e9))
			if at.Sub(now) > max(p.cfg.RTT, 10*time.Millisecond) {
				p.lost.Add(1)
				packets.Put(buf)
				continue
			}
			free[dir] = at
			due = at.Add(p.cfg.RTT / 2)
		}
		if p.cut.Load() || rand.Float64() < p.cfg.Loss {
			p.lost.Add(1)
			packets.Put(buf)
			continue
		}
		select {
		case way <- packet{data, due}:
		default:
			p.lost.Add(1)
			packets.Put(buf)
		}
	}
}

// give delivers each packet when it is due.
func (p *Path) give(way <-chan packet) {
	for x := range way {
		if wait := time.Until(x.due); wait > 0 {
			time.Sleep(wait)
		}
		var from [4]byte
		copy(from[:], x.data[12:16])
		copy(x.data[12:16], x.data[16:20])
		copy(x.data[16:20], from[:])
		p.tun.Write(x.data) // what the kernel doesn't take is lost
		packets.Put((*[mtu]byte)(x.data[:mtu]))
	}
}
