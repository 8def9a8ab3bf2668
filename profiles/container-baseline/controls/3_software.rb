title 'Software'

folders = %w(/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin)

control 'software-01' do
  impact 0.7
  title 'There is no server for remote logins'
  desc 'People reach a container through its platform, which knows who they are. A login server is a second door, with keys and passwords of its own.'
  desc 'check', 'No ssh, telnet, rsh or ftp server is installed.'
  desc 'fix', 'Remove the package from the image, and use `kubectl exec` or `kubectl debug`.'
  tag severity: 'high'
  tag nist: ['AC-17', 'CM-7']
  describe 'Servers for remote logins' do
    subject do
      %w(sshd dropbear in.telnetd telnetd in.rshd in.rlogind in.ftpd vsftpd proftpd).select { |s| folders.any? { |d| file("#{d}/#{s}").exist? } }
    end
    it { should be_empty }
  end
end

control 'software-02' do
  impact 0.3
  title 'There are no tools for attacks or building'
  desc 'Compilers, debuggers and network tools help an intruder far more than the service. They belong into a build stage or a debug container.'
  desc 'check', 'None of the usual tools is installed.'
  desc 'fix', 'Build in a stage of its own and copy the result; remove the packages.'
  tag severity: 'low'
  tag nist: ['CM-7']
  describe 'Tools for attacks or building' do
    subject do
      %w(gcc cc g++ clang gdb strace tcpdump nmap ncat socat telnet rsh rlogin tftp).select { |t| folders.any? { |d| file("#{d}/#{t}").exist? } }
    end
    it { should be_empty }
  end
end

control 'software-03' do
  impact 0.5
  title 'Nobody can become root by sudo'
  desc 'A container runs as the user that it needs. sudo is a setuid program with a long history of flaws, and it defeats that choice.'
  desc 'check', 'sudo and doas are not installed.'
  desc 'fix', 'Remove the package, and set the user with `USER` in the image or `runAsUser` in the pod.'
  tag severity: 'medium'
  tag nist: ['AC-6', 'CM-7']
  %w(/usr/bin/sudo /usr/bin/doas /usr/local/bin/sudo).each do |f|
    describe file(f) do
      it { should_not exist }
    end
  end
end

control 'software-04' do
  impact 0.7
  title 'Packages are installed only with a valid signature'
  desc 'A package source that is trusted unsigned lets whoever is on the way to it choose what is installed.'
  desc 'check', 'No apt source has trusted=yes or allow-insecure=yes; yum and dnf have gpgcheck on.'
  desc 'fix', 'Add the key of the source, and remove the exception.'
  tag severity: 'high'
  tag nist: ['CM-14', 'SI-7']
  apt = %w(/etc/apt/sources.list /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources).select { |f| file(f).exist? }
  yum = %w(/etc/yum.conf /etc/dnf/dnf.conf).select { |f| file(f).exist? }
  only_if('no apt, yum or dnf is there') { !(apt + yum).empty? }
  apt.each do |f|
    describe file(f) do
      its('content') { should_not match(/^[^#]*\b(trusted|allow-insecure)\s*[=:]\s*yes\b/i) }
    end
  end
  yum.each do |f|
    describe file(f) do
      its('content') { should_not match(/^\s*gpgcheck\s*=\s*(0|no|false)\b/i) }
    end
  end
end
