title 'Files'

control 'files-01' do
  impact 0.7
  title 'The account files can be changed by root alone'
  desc 'Whoever can write /etc/passwd or /etc/group can make himself root.'
  desc 'check', 'The files belong to root and have the mode 0644 or a stricter one.'
  desc 'fix', '`chown root:root FILE && chmod 0644 FILE` in the image.'
  tag severity: 'high'
  tag nist: ['AC-3', 'AC-6']
  found = ['/etc/passwd', '/etc/group', '/etc/passwd-', '/etc/group-'].select { |f| file(f).exist? }
  only_if('there are no account files') { !found.empty? }
  found.each do |f|
    describe file(f) do
      it { should be_owned_by 'root' }
      it { should be_grouped_into 'root' }
      it { should_not be_more_permissive_than('0644') }
    end
  end
end

control 'files-02' do
  impact 0.7
  title 'The password files can be read by root alone'
  desc 'Password hashes that others can read are guessed at leisure, elsewhere.'
  desc 'check', '/etc/shadow and /etc/gshadow belong to root and have the mode 0640 or a stricter one.'
  desc 'fix', '`chown root:shadow FILE && chmod 0640 FILE` in the image; on systems without the group shadow root:root and 0600.'
  tag severity: 'high'
  tag nist: ['AC-3', 'IA-5']
  found = ['/etc/shadow', '/etc/gshadow', '/etc/shadow-', '/etc/gshadow-'].select { |f| file(f).exist? }
  only_if('there are no password files') { !found.empty? }
  found.each do |f|
    describe file(f) do
      it { should be_owned_by 'root' }
      it { should_not be_more_permissive_than('0640') }
    end
  end
end

control 'files-03' do
  impact 0.5
  title 'Folders for temporary files are sticky'
  desc 'Without the sticky bit any process can delete or replace the temporary files of another.'
  desc 'check', '/tmp, /var/tmp and /dev/shm, where they are writable for all, have the sticky bit and belong to root.'
  desc 'fix', '`chmod 1777 /tmp /var/tmp` in the image.'
  tag severity: 'medium'
  tag nist: ['AC-3', 'SC-4']
  found = ['/tmp', '/var/tmp', '/dev/shm'].select { |d| directory(d).exist? && directory(d).writable?('others', nil) }
  only_if('there are no folders for temporary files') { !found.empty? }
  found.each do |d|
    describe directory(d) do
      it { should be_owned_by 'root' }
      it { should be_sticky }
    end
  end
end

control 'files-04' do
  impact 0.7
  title 'Folders that programs are found in can be changed by root alone'
  desc 'A file that anyone can put on the path runs with the rights of whoever calls it next.'
  desc 'check', 'Each folder of the input path_directories belongs to root and cannot be written by others.'
  desc 'fix', '`chown root DIR && chmod o-w DIR` in the image.'
  tag severity: 'high'
  tag nist: ['AC-6', 'CM-5']
  found = input('path_directories').select { |d| directory(d).exist? }
  only_if('none of the folders is there') { !found.empty? }
  found.each do |d|
    describe directory(d) do
      it { should be_owned_by 'root' }
      it { should_not be_writable.by('others') }
    end
  end
end

control 'files-05' do
  impact 0.7
  title 'Files that logins and programs read at their start can be changed by root alone'
  desc 'These files are executed or obeyed by every shell, linker, resolver or scheduler: writing one of them is running code as its reader.'
  desc 'check', 'Each of the files that is there belongs to root and cannot be written by others.'
  desc 'fix', '`chown root FILE && chmod o-w FILE` in the image.'
  tag severity: 'high'
  tag nist: ['AC-6', 'CM-5']
  found = %w(
    /etc/profile /etc/bash.bashrc /etc/bashrc /etc/environment /etc/crontab /etc/inittab /etc/ld.so.conf /etc/ld.so.cache
    /etc/nsswitch.conf /etc/pam.conf /etc/sudoers /etc/securetty /etc/security/limits.conf /etc/ssl/openssl.cnf
  ).select { |f| file(f).exist? }
  only_if('none of the files is there') { !found.empty? }
  found.each do |f|
    describe file(f) do
      it { should be_owned_by 'root' }
      it { should_not be_writable.by('others') }
    end
  end
end

control 'files-06' do
  impact 0.9
  title 'No library is loaded into every program'
  desc 'A library named in /etc/ld.so.preload is loaded into each process. Hardly any image needs that; userland rootkits do.'
  desc 'check', '/etc/ld.so.preload is not there, or holds nothing but comments.'
  desc 'fix', 'Remove the file, and find out how it came to be.'
  tag severity: 'critical'
  tag nist: ['SI-3', 'CM-5']
  only_if('/etc/ld.so.preload may not be read') { container_target.unreadable(['/etc/ld.so.preload']).empty? }
  describe 'Libraries named in /etc/ld.so.preload' do
    subject { container_target.text('/etc/ld.so.preload').to_s.lines.map(&:strip).reject { |l| l.empty? || l.start_with?('#') } }
    it { should be_empty }
  end
end

control 'files-07' do
  impact 0.7
  title 'Tools that can run anything are not setuid'
  desc 'With the setuid bit an interpreter, editor or copying tool gives its owner\'s rights to anyone who calls it.'
  desc 'check', 'None of the usual ones, where it is there, has the setuid or setgid bit.'
  desc 'fix', '`chmod ug-s FILE` in the image.'
  tag severity: 'high'
  tag nist: ['AC-6', 'CM-7']
  tools = %w(ash bash busybox cp curl dash find gawk gdb less mawk more mv nano nc node nmap perl php python python3 ruby sed sh
             socat strace tar tee vi vim wget xxd zsh)
  found = %w(/usr/local/bin /usr/bin /bin).flat_map { |d| tools.map { |t| "#{d}/#{t}" } }.select { |f| file(f).exist? }
  only_if('none of the tools is there') { !found.empty? }
  describe 'Setuid or setgid among the tools that can run anything' do
    subject { found.select { |f| file(f).setuid? || file(f).setgid? } }
    it { should be_empty }
  end
end

control 'files-08' do
  impact 0.5
  title 'There are no setuid or setgid files beyond the known ones'
  desc 'Each setuid file is a way from a user to root; a container seldom needs one. Setting allowPrivilegeEscalation: false disarms them all.'
  desc 'check', 'Look for files with the bits; their names must be in the input allowed_setuid.'
  desc 'fix', 'Remove the bits in the image: `find / -xdev -perm /6000 -type f -exec chmod a-s {} +`.'
  tag severity: 'medium'
  tag nist: ['AC-6', 'CM-7']
  only_if('looking through all files takes a running container') { container_target.running? }
  describe 'Setuid and setgid files that are not allowed' do
    subject do
      found = command('find / -xdev \( -path /proc -o -path /sys \) -prune -o -type f \( -perm -4000 -o -perm -2000 \) -print 2>/dev/null').stdout
      found.lines.map(&:strip).reject { |f| input('allowed_setuid').include?(File.basename(f)) }
    end
    it { should be_empty }
  end
end

control 'files-09' do
  impact 0.7
  title 'No file in system folders can be written by all'
  desc 'Programs and their configuration that any process can change make any process every other.'
  desc 'check', 'Look for files below /bin, /boot, /etc, /lib, /opt, /sbin and /usr that others may write.'
  desc 'fix', '`chmod o-w FILE` in the image.'
  tag severity: 'high'
  tag nist: ['AC-3', 'CM-5']
  only_if('looking through all files takes a running container') { container_target.running? }
  describe 'Files in system folders that all can write' do
    subject { command('find /bin /boot /etc /lib /lib64 /opt /sbin /usr -xdev -type f -perm -0002 2>/dev/null').stdout.lines.map(&:strip) }
    it { should be_empty }
  end
end
