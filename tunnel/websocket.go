package tunnel

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"
)

// This file has as much of RFC 6455 as a carrier needs: binary messages as a
// stream of bytes, with one frame for each Write. Neither end needs the
// messages' bounds, so data is never collected and no length needs a limit.
// A general WebSocket package costs half of the throughput here: it fills
// 4 KiB buffers, and so makes a TLS record and a system call of each 4 KiB.

const (
	opContinuation = 0x0
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa

	maxControl = 125 // bytes that a control frame may carry
	maxHeader  = 14  // bytes of the longest frame header
)

// errFrame is the root of what is wrong with a frame.
var errFrame = errors.New("malformed WebSocket frame")

// dialWebSocket asks for a WebSocket at address, through tr.
func dialWebSocket(ctx context.Context, tr *http.Transport, address *url.URL) (net.Conn, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	// The answer's body is the connection, but shows neither addresses nor
	// deadlines.
	var conn net.Conn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key,
	} {
		req.Header.Set(k, v)
	}
	// RoundTrip follows no redirect: the hub sends none, and nobody else is
	// to see the agent's certificate.
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
		resp.Body.Close()
		return nil, fmt.Errorf("answer %q instead of a WebSocket: %s", resp.Status, strings.TrimSpace(string(said)))
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		rwc.Close()
		return nil, errors.New("answer isn't that of a WebSocket: wrong Sec-WebSocket-Accept")
	}
	return newWebSocket(conn, rwc, nil, true), nil
}

// acceptWebSocket answers an opening handshake. When it is wrong, it says so
// to the caller and returns nil.
func acceptWebSocket(w http.ResponseWriter, r *http.Request) net.Conn {
	key := r.Header.Get("Sec-WebSocket-Key")
	nonce, err := base64.StdEncoding.DecodeString(key)
	switch {
	case r.Header.Get("Origin") != "":
		http.Error(w, "a carrier isn't for web pages", http.StatusForbidden)
		return nil
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.Method != http.MethodGet ||
		!hasToken(r.Header, "Connection", "upgrade") || !hasToken(r.Header, "Upgrade", "websocket"):
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "this is the path of agents' carriers: ask for a WebSocket by HTTP/1.1", http.StatusUpgradeRequired)
		return nil
	case r.Header.Get("Sec-WebSocket-Version") != "13":
		w.Header().Set("Sec-WebSocket-Version", "13")
		http.Error(w, "Sec-WebSocket-Version must be 13", http.StatusUpgradeRequired)
		return nil
	case err != nil || len(nonce) != 16:
		http.Error(w, "Sec-WebSocket-Key must be 16 bytes in base64", http.StatusBadRequest)
		return nil
	}
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, "the server can't hand the connection over", http.StatusInternalServerError)
		return nil
	}
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Accept: "+acceptKey(key)+"\r\n\r\n")
	if err != nil {
		conn.Close()
		return nil
	}
	// What came behind the handshake is in the server's buffer.
	early, _ := brw.Reader.Peek(brw.Reader.Buffered())
	return newWebSocket(conn, conn, early, false)
}

func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func hasToken(h http.Header, name, token string) bool {
	for _, v := range h.Values(name) {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// webSocket is a stream of bytes in binary messages. One goroutine may read
// while another writes.
type webSocket struct {
	net.Conn // addresses and deadlines
	rwc      io.ReadWriteCloser
	client   bool

	// Of the reader:
	br   *bufio.Reader
	left uint64 // bytes of the present frame still to come
	key  uint32 // its mask, turned to the next byte; zero unless masked

	mu sync.Mutex // keeps frames in order
}

func newWebSocket(conn net.Conn, rwc io.ReadWriteCloser, early []byte, client bool) *webSocket {
	var r io.Reader = rwc
	if len(early) > 0 {
		r = io.MultiReader(strings.NewReader(string(early)), rwc)
	}
	return &webSocket{Conn: conn, rwc: rwc, client: client, br: bufio.NewReaderSize(r, headBuffer/2)}
}

func (w *webSocket) Read(p []byte) (int, error) {
	for w.left == 0 {
		if err := w.next(); err != nil {
			return 0, err
		}
	}
	n, err := w.br.Read(p[:min(uint64(len(p)), w.left)])
	w.left -= uint64(n)
	if w.key != 0 {
		w.key = mask(p[:n], w.key)
	}
	if err == io.EOF && w.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads frames up to the header of the next one with data.
func (w *webSocket) next() error {
	op, n, key, err := readHeader(w.br, !w.client)
	if err != nil {
		return err
	}
	if op == opBinary || op == opContinuation {
		w.left, w.key = n, key
		return nil
	}
	payload := make([]byte, n) // at most maxControl
	if _, err := io.ReadFull(w.br, payload); err != nil {
		return err
	}
	mask(payload, key)
	switch op {
	case opClose:
		return io.EOF
	case opPing:
		// The writer's deadline may be long past, which would break TLS.
		w.Conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		return w.write(opPong, payload)
	}
	return nil
}

// readHeader reads one frame's header. masked says what the other end must do.
func readHeader(br *bufio.Reader, masked bool) (op byte, n uint64, key uint32, err error) {
	var h [maxHeader]byte
	if _, err := io.ReadFull(br, h[:2]); err != nil {
		return 0, 0, 0, err
	}
	op = h[0] & 0x0f
	control := op&0x8 != 0
	switch {
	case h[0]&0x70 != 0:
		return 0, 0, 0, fmt.Errorf("%w: reserved bits are set", errFrame)
	case op != opContinuation && op != opBinary && op != opClose && op != opPing && op != opPong:
		return 0, 0, 0, fmt.Errorf("%w: opcode %#x", errFrame, op)
	case (h[1]&0x80 != 0) != masked:
		return 0, 0, 0, fmt.Errorf("%w: mask must be there from the client and only from it", errFrame)
	}
	n = uint64(h[1] & 0x7f)
	if control && (n > maxControl || h[0]&0x80 == 0) {
		return 0, 0, 0, fmt.Errorf("%w: control frame too long or in pieces", errFrame)
	}
	rest := 0
	switch n {
	case 126:
		rest = 2
	case 127:
		rest = 8
	}
	if masked {
		rest += 4
	}
	if _, err := io.ReadFull(br, h[:rest]); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, 0, 0, err
	}
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(h[:]))
	case 127:
		if n = binary.BigEndian.Uint64(h[:]); n>>63 != 0 {
			return 0, 0, 0, fmt.Errorf("%w: negative length", errFrame)
		}
	}
	if masked {
		key = binary.LittleEndian.Uint32(h[rest-4:])
	}
	return op, n, key, nil
}

func (w *webSocket) Write(p []byte) (int, error) {
	if err := w.write(opBinary, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// write sends one frame in one Write of the connection.
func (w *webSocket) write(op byte, p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	buffer := outBuffers.Get().(*[]byte)
	defer putOut(buffer)
	b := append(*buffer, 0x80|op)
	var masked byte
	if w.client {
		masked = 0x80
	}
	switch {
	case len(p) <= maxControl:
		b = append(b, masked|byte(len(p)))
	case len(p) <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, masked|126), uint16(len(p)))
	default:
		b = binary.BigEndian.AppendUint64(append(b, masked|127), uint64(len(p)))
	}
	if w.client {
		// Not to be foreseen by who chose p (section 10.3), though nobody else
		// sees it beneath TLS: this generator is ChaCha8.
		key := mathrand.Uint32()
		b = binary.LittleEndian.AppendUint32(b, key)
		at := len(b)
		b = append(b, p...)
		mask(b[at:], key)
	} else {
		b = append(b, p...)
	}
	*buffer = b
	_, err := w.rwc.Write(b)
	return err
}

// Close says goodbye if that is possible at once, and closes the connection.
func (w *webSocket) Close() error {
	w.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	if w.mu.TryLock() {
		w.mu.Unlock()
		w.write(opClose, []byte{0x03, 0xe8}) // 1000, normal closure
	}
	return w.rwc.Close()
}

// mask applies a mask, or takes it off, and answers the mask as it stands
// for the byte after p.
func mask(p []byte, key uint32) uint32 {
	k := uint64(key)<<32 | uint64(key)
	if len(p) >= 2*len(maskBlock{}) {
		var block maskBlock
		for i := 0; i < len(block); i += 8 {
			binary.LittleEndian.PutUint64(block[i:], k)
		}
		for len(p) >= len(block) {
			subtle.XORBytes(p, p, block[:])
			p = p[len(block):]
		}
	}
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^k)
		p = p[8:]
	}
	for i := range p {
		p[i] ^= byte(key)
		key = key>>8 | key<<24
	}
	return key
}

// maskBlock is a mask as often as makes vector instructions worth their call.
type maskBlock [512]byte
