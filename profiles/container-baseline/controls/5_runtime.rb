title 'How the container was started'

control 'runtime-01' do
  impact 0.7
  title 'The first process does not run as root'
  desc 'Root in a container is root on the node as soon as one wall has a hole, and inside it can change all that is installed.'
  desc 'check', 'The user id in /proc/1/status is not 0.'
  desc 'fix', 'Set `USER` in the image, and runAsNonRoot: true in the pod.'
  tag severity: 'high'
  tag nist: ['AC-6']
  only_if('no container is running, or its first process may not be looked at') { container_target.first_process?('Uid') }
  describe 'User id of process 1' do
    subject { container_target.first_process('Uid') }
    it { should match(/\A[1-9][0-9]*\z/) }
  end
end

control 'runtime-02' do
  impact 0.9
  title 'The container is not privileged'
  desc 'With CAP_SYS_ADMIN, CAP_SYS_MODULE or CAP_SYS_PTRACE a container can mount the node\'s disks, load kernel code or enter other processes.'
  desc 'check', 'These capabilities are not in the bounding set of process 1.'
  desc 'fix', 'Remove privileged: true; drop ALL capabilities and add the few that are needed.'
  tag severity: 'critical'
  tag nist: ['AC-6', 'SC-39']
  only_if('no container is running, or its first process may not be looked at') { container_target.first_process?('CapBnd') }
  held = container_target.first_process('CapBnd').to_s.to_i(16)
  describe 'Dangerous capabilities that process 1 can gain' do
    subject { { 'CAP_SYS_MODULE' => 16, 'CAP_SYS_PTRACE' => 19, 'CAP_SYS_ADMIN' => 21 }.select { |_, bit| held & (1 << bit) != 0 }.keys }
    it { should be_empty }
  end
end

control 'runtime-03' do
  impact 0.5
  title 'System calls are filtered'
  desc 'A seccomp filter keeps hundreds of system calls that no service makes out of an intruder\'s reach.'
  desc 'check', 'Seccomp in /proc/1/status is 2.'
  desc 'fix', 'Set seccompProfile: {type: RuntimeDefault} in the pod.'
  tag severity: 'medium'
  tag nist: ['SC-39', 'CM-7']
  only_if('no container is running, or its first process may not be looked at') { container_target.first_process?('Seccomp') }
  describe 'Seccomp mode of process 1' do
    subject { container_target.first_process('Seccomp') }
    it { should cmp 2 }
  end
end

control 'runtime-04' do
  impact 0.5
  title 'No process can gain rights that its parent lacks'
  desc 'With no_new_privs set, setuid files and file capabilities have no effect.'
  desc 'check', 'NoNewPrivs in /proc/1/status is 1.'
  desc 'fix', 'Set allowPrivilegeEscalation: false in the container\'s securityContext.'
  tag severity: 'medium'
  tag nist: ['AC-6']
  only_if('no container is running, or its first process may not be looked at') { container_target.first_process?('NoNewPrivs') }
  describe 'no_new_privs of process 1' do
    subject { container_target.first_process('NoNewPrivs') }
    it { should cmp 1 }
  end
end

control 'runtime-05' do
  impact 0.5
  title 'No secrets stand in the environment of the first process'
  desc 'The environment is inherited by every child, shown by `describe` and written into crash reports.'
  desc 'check', 'No variable whose name looks like a secret is in /proc/1/environ.'
  desc 'fix', 'Mount secrets as files.'
  tag severity: 'medium'
  tag nist: ['IA-5(7)', 'SC-28']
  environment = container_target.text('/proc/1/environ')
  only_if('no container is running, or its environment may not be read') { container_target.running? && !environment.nil? }
  secret = Regexp.new(input('secret_names'), Regexp::IGNORECASE)
  describe 'Variables of process 1 that hold a secret' do
    subject { environment.to_s.split("\0").map { |v| v.split('=', 2) }.select { |name, value| name =~ secret && !value.to_s.empty? }.map(&:first) }
    it { should be_empty }
  end
end

control 'runtime-06' do
  impact 0.5
  title 'The kernel makes exploits harder'
  desc 'Random addresses, and links in shared folders that only their owners can follow, stop whole classes of attacks.'
  desc 'check', 'kernel.randomize_va_space is 2, fs.protected_hardlinks and fs.protected_symlinks are 1.'
  desc 'fix', 'Set them on the node with sysctl.'
  tag severity: 'medium'
  tag nist: ['SI-16']
  wanted = { 'kernel/randomize_va_space' => '2', 'fs/protected_hardlinks' => '1', 'fs/protected_symlinks' => '1' }
  found = wanted.keys.reject { |k| container_target.text("/proc/sys/#{k}").nil? }
  only_if('the kernel\'s settings may not be read') { !found.empty? }
  found.each do |k|
    describe "Kernel setting #{k.tr('/', '.')}" do
      subject { container_target.text("/proc/sys/#{k}").strip }
      it { should cmp wanted[k] }
    end
  end
end
