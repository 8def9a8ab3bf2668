title 'Accounts'

control 'accounts-01' do
  impact 0.9
  title 'Only root has the user id 0'
  desc 'An account with the user id 0 is root under another name. It passes reviews and log searches that look for "root".'
  desc 'check', 'List the accounts of /etc/passwd whose third field is 0; only root may be among them.'
  desc 'fix', 'Remove the other accounts, or give them an id of their own, in the image.'
  tag severity: 'critical'
  tag nist: ['AC-6', 'IA-2']
  only_if('there is no /etc/passwd') { file('/etc/passwd').exist? }
  describe passwd.uids(0) do
    its('users') { should cmp ['root'] }
  end
end

control 'accounts-02' do
  impact 0.9
  title 'No account has an empty password'
  desc 'With an empty password field anyone who reaches a login or su becomes that account.'
  desc 'check', 'The second field of each line of /etc/passwd, and of /etc/shadow, must not be empty.'
  desc 'fix', 'Lock the account with `passwd -l NAME` when the image is built.'
  tag severity: 'critical'
  tag nist: ['IA-5(1)']
  only_if('there is no /etc/passwd') { file('/etc/passwd').exist? }
  describe passwd.where { password == '' } do
    its('users') { should be_empty }
  end
  if container_target.text('/etc/shadow').nil?
    describe 'Passwords in /etc/shadow' do
      skip '/etc/shadow is not there, or may not be read by the user of this scan'
    end
  else
    describe shadow.where { password == '' } do
      its('users') { should be_empty }
    end
  end
end

control 'accounts-03' do
  impact 0.5
  title 'System accounts have no login shell'
  desc 'A system account owns files and runs a service; a shell turns a stolen password or a writable crontab into a session.'
  desc 'check', 'Accounts with a user id from 1 to 999 must have a shell that gives no login, such as /usr/sbin/nologin.'
  desc 'fix', 'Set it in the image: `usermod -s /usr/sbin/nologin NAME`. Name accounts that need a shell in the input login_shell_accounts.'
  tag severity: 'medium'
  tag nist: ['AC-6', 'CM-7']
  only_if('there is no /etc/passwd') { file('/etc/passwd').exist? }
  shells = input('nologin_shells')
  allowed = input('login_shell_accounts')
  describe 'System accounts with a login shell' do
    subject { passwd.where { uid.to_i > 0 && uid.to_i < 1000 && !allowed.include?(user) && !shells.include?(shell.to_s) }.users }
    it { should be_empty }
  end
end

control 'accounts-04' do
  impact 0.5
  title 'User names and user ids are unique'
  desc 'Two accounts with one id own the same files, and logs cannot tell which of them acted.'
  desc 'check', 'No name and no user id stands twice in /etc/passwd.'
  desc 'fix', 'Give each account an id of its own in the image.'
  tag severity: 'medium'
  tag nist: ['IA-4']
  only_if('there is no /etc/passwd') { file('/etc/passwd').exist? }
  describe passwd do
    its('users') { should_not contain_duplicates }
    its('uids') { should_not contain_duplicates }
  end
end

control 'accounts-05' do
  impact 0.5
  title "Root's home is closed to others"
  desc "What root keeps at home — history, keys, configuration — is nobody else's business, and a file planted there runs as root."
  desc 'check', '/root belongs to root and grants others nothing.'
  desc 'fix', '`chown root:root /root && chmod 0700 /root` in the image.'
  tag severity: 'medium'
  tag nist: ['AC-3', 'AC-6']
  only_if('there is no /root') { directory('/root').exist? }
  describe directory('/root') do
    it { should be_owned_by 'root' }
    it { should_not be_more_permissive_than('0750') }
  end
end
