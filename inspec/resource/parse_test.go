package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"reeve.dev/reeve/inspec/ruby"
)

func same(t *testing.T, want, got any) {
	t.Helper()
	opt := cmp.AllowUnexported(mountEntry{}, fstabEntry{}, packageInfo{}, idInfo{}, process{}, socket{}, route{})
	if d := cmp.Diff(want, got, opt); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestParseDpkgStatus(t *testing.T) {
	const text = `Package: sudo
Status: install ok installed
Architecture: amd64
Version: 1.9.13p3-1+deb12u4
Description: Provide limited super user privileges
 Version: not this one
 .

Package: gone
Status: deinstall ok config-files
Version: 1

Package: kept
Status: hold ok installed
Version: 2:3-4
`
	same(t, []packageInfo{
		{name: "sudo", version: "1.9.13p3-1+deb12u4", arch: "amd64", installed: true},
		{name: "gone", version: "1"},
		{name: "kept", version: "2:3-4", installed: true, held: true},
	}, parseDpkgStatus(text))
}

func TestParseApkInstalled(t *testing.T) {
	same(t, []packageInfo{
		{name: "musl", version: "1.2.5-r0", arch: "x86_64", installed: true},
		{name: "busybox", version: "1.36.1-r29", installed: true},
	}, parseApkInstalled("C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\nF:lib\nR:ld.so\n\nP:busybox\nV:1.36.1-r29\n"))
}

func TestParseID(t *testing.T) {
	same(t, idInfo{uid: "1000", gid: "1000", user: "alice", group: "alice", groups: []string{"alice", "adm", "sudo"}, hasUID: true},
		parseID("uid=1000(alice) gid=1000(alice) groups=1000(alice),4(adm),27(sudo)\n"))
	same(t, idInfo{uid: "5", gid: "99", user: "x", groups: []string{""}, hasUID: true}, parseID("uid=5(x) gid=99 groups=99"))
	same(t, idInfo{}, parseID("id: 'nobody': no such user"))
}

func TestParseFstab(t *testing.T) {
	same(t, []fstabEntry{
		{device: "UUID=x", mountPoint: "/", kind: "ext4", options: []string{"errors=remount-ro"}, pass: 1},
		{device: "tmpfs", mountPoint: "/tmp", kind: "tmpfs", options: []string{"nosuid", "nodev"}},
	}, parseFstab("# a comment\nUUID=x / ext4 errors=remount-ro 0 1 # root\n\nbroken line\ntmpfs\t/tmp\ttmpfs\tnosuid,nodev\n"))
}

func TestParseMount(t *testing.T) {
	e, ok := parseMount("tmpfs on /tmp type tmpfs (rw,nosuid,size=65536k)")
	if !ok {
		t.Fatal("not read")
	}
	same(t, mountEntry{device: "tmpfs", path: "/tmp", kind: "tmpfs", options: []string{"rw", "nosuid", "size=65536k"}}, e)
	e, _ = parseMount("//host/a share on /mnt/with space type cifs (ro)")
	same(t, mountEntry{device: "//host/a share", path: "/mnt/with space", kind: "cifs", options: []string{"ro"}}, e)
	e, _ = parseProcMount(`/dev/sda1 /mnt/with\040space ext4 rw,relatime 0 0`)
	same(t, mountEntry{device: "/dev/sda1", path: "/mnt/with space", kind: "ext4", options: []string{"rw", "relatime"}}, e)
}

func TestParsePS(t *testing.T) {
	same(t, []process{{
		label: "unconfined", pid: 1, cpu: "0.0", mem: "0.1", vsz: 2584, rss: 1500, tty: "?", stat: "S", start: "10:00:01", time: "00:00:00",
		user: "root", command: "/bin/sleep infinity", hasLabel: true,
	}}, parsePS("LABEL PID %CPU %MEM VSZ RSS TT STAT STARTED TIME USER COMMAND\nunconfined 1  0.0  0.1   2584  1500 ?  S 10:00:01 00:00:00 root    /bin/sleep infinity\n"))
	same(t, []process{{pid: 7, vsz: 1258291, rss: 4, tty: "?", stat: "S", time: "0:00", user: "root", command: "nginx: master"}},
		parseBusyPS("PID   VSZ  RSS  TT STAT TIME RUSER COMMAND\n    7 1.2g 4 ? S 0:00 root nginx: master\n"))
	same(t, []process{
		{pid: 1, user: "0", stat: "S", vsz: 100, rss: 50, command: "/bin/sleep infinity"},
		{pid: 2, user: "0", stat: "S", command: "[kthreadd]"},
	}, parseProcList("1\t0\tS\t100\t50\tsleep\t/bin/sleep\x00infinity\x00\n\x002\t0\tS\t0\t0\tkthreadd\t\n\x00"))
}

func TestParseSockets(t *testing.T) {
	same(t, []socket{
		{port: 22, address: "0.0.0.0", protocol: "tcp", process: "sshd", pid: 12, hasProcess: true},
		{port: 22, address: "::", protocol: "tcp6"},
		{port: 323, address: "127.0.0.1", protocol: "udp"},
	}, parseSS(`Netid State Recv-Q Send-Q Local Address:Port Peer Address:Port Process
udp_x UNCONN 0 0 127.0.0.1:1 0.0.0.0:*
tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=12,fd=3)) ino:1 sk:1
tcp LISTEN 0 128 [::]:22 [::]:* ino:2 sk:2 v6only:1
udp UNCONN 0 0 127.0.0.1%lo:323 0.0.0.0:* ino:3
`))
	same(t, []socket{
		{port: 22, address: "0.0.0.0", protocol: "tcp", process: "sshd", pid: 12, hasProcess: true},
		{port: 80, address: "::", protocol: "tcp6"},
	}, parseNetstat(`Active Internet connections (only servers)
Proto Recv-Q Send-Q Local Address Foreign Address State User Inode PID/Program name
tcp   0 0 0.0.0.0:22 0.0.0.0:* LISTEN 0 1 12/sshd
tcp6  0 0 :::80 :::* LISTEN 0 1 -
`))
	same(t, []socket{{port: 8080, address: "127.0.0.1", protocol: "tcp"}}, parseProcNet(`  sl  local_address rem_address   st
   0: 0100007F:1F90 00000000:0000 0A 0
   1: 0100007F:0016 0100007F:9999 01 0
`, "tcp"))
	same(t, []socket{{port: 53, address: "::1", protocol: "udp6"}}, parseProcNet("header\n 0: 00000000000000000000000001000000:0035 0:0 07\n", "udp6"))
}

func TestParseRoutes(t *testing.T) {
	same(t, []route{{"0.0.0.0", "10.0.0.1", "eth0"}, {"10.0.0.0", "0.0.0.0", "eth0"}}, parseRoutes(`Kernel IP routing table
Destination     Gateway         Genmask         Flags   MSS Window  irtt Iface
0.0.0.0         10.0.0.1        0.0.0.0         UG        0 0          0 eth0
10.0.0.0        0.0.0.0         255.255.255.0   U         0 0          0 eth0
broken
`))
	same(t, []route{{"default", "192.0.2.1", "em0"}}, parseRoutes("Routing tables\n\nInternet:\nDestination Gateway Flags Netif Expire\ndefault 192.0.2.1 UGS em0\n"))
	same(t, []route(nil), parseRoutes("Destination alone\n1 2 3\n"))
}

func TestAuditRows(t *testing.T) {
	in := ruby.New(ruby.Limits{})
	for line, want := range map[string]string{
		"-w /etc/passwd -p wa -k identity": `{"file"=>"/etc/passwd", "key"=>"identity", "permissions"=>["w", "a"]}`,
		"-a always,exit -F arch=b64 -S chmod,fchmod -F auid>=1000 -F key=perm_mod": `{"action"=>"always", "list"=>"exit", "key"=>"perm_mod", "arch"=>"b64", "path"=>nil, "permissions"=>nil, "exit"=>nil, ` +
			`"fields"=>["arch=b64", "auid>=1000", "key=perm_mod"], "fields_nokey"=>["arch=b64", "auid>=1000"], "syscall"=>"fchmod"}`,
		"-a always,exit -F path=/bin/su -F perm=x -k privileged": `{"action"=>"always", "list"=>"exit", "key"=>nil, "arch"=>nil, "path"=>"/bin/su", "permissions"=>["x"], "exit"=>nil, ` +
			`"fields"=>["path=/bin/su", "perm=x", "-k", "privileged"], "fields_nokey"=>["path=/bin/su", "perm=x", "-k", "privileged"], "file"=>"/bin/su"}`,
	} {
		rows := auditRows(line)
		if len(rows) == 0 {
			t.Errorf("%s: no rule", line)
			continue
		}
		if got := in.Inspect(auditHash(rows[len(rows)-1])); got != want {
			t.Errorf("%s:\n got %s\nwant %s", line, got, want)
		}
	}
}

// FuzzParse feeds every parser of what a target says; none may panic.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", ":", "a:b:c", "Package: x\nVersion: 1\n\n", "P:x\nV:1\n", "uid=0(root) gid=0(root) groups=0(root)", "uid=(", "d on p type t (o)", " on  type ",
		"/dev/x / ext4 ro 0 0", `\04`, "tcp LISTEN 0 0 [::ffff:1.2.3.4]:22 *:* users:((", "0: 0100007F:1F90 0:0 0A", "1\t2\t3\t4\t5\t6\t7\n\x00", "title a\n\tkernel b\n", "menuentry 'a' --\n\tset root='x'\n", "Repo-id : a\n: b", "a:b/c:d", "Destination Gateway Iface\n1 2 3", "\n1 1.5g 2m ? S 0:0 root x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lines(text)
		fields(text, ":")
		uncommented(text, "#")
		idNamesLike(text)
		parseDpkgStatus(text)
		parseApkInstalled(text)
		parseID(text)
		parseFstab(text)
		parseMount(text)
		parseProcMount(text)
		parsePS("\n" + text)
		parseBusyPS("\n" + text)
		parseProcList(text)
		parseSS(text)
		parseNetstat(text)
		parseProcNet("\n"+text, "tcp")
		leadingInt(text)
		wholeNumber(text)
		decimal(text)
		kilobytes(text)
		shellEscape(text)
		parseNginx(text)
		parseAptSources(text)
		parseAide(text)
		auditRows(text)
		hbaRows(text)
		wrapperRows(text)
		hostsRows(text)
		cronRow(text, true, nil)
		parseCSV(text, true)
		parseRoutes(text)
		parseYum(text)
		parseImage(text)
		serverVersion([]byte(text))
		nftText(text, "sets")
		parseRSA([]byte(text), "")
		grubMenuEntry(text, lines(text))
		legacyKernel(text, text, 0)
		wildcard(text, "a*b")
	})
}

// idNamesLike takes the fields that account files are read by.
func idNamesLike(text string) {
	for _, line := range lines(text) {
		groupRow(fields(line, ":"))
		textRow(passwdFields, fields(line, ":"))
	}
}
