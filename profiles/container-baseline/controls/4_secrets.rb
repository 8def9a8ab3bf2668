title 'Secrets'

control 'secrets-01' do
  impact 0.9
  title "The container engine's socket is not in the container"
  desc 'Who can write to the socket can start a privileged container with the root file system of the node, and so owns the node.'
  desc 'check', 'No socket of Docker, containerd, CRI-O or Podman is there.'
  desc 'fix', 'Remove the hostPath volume; build images with a tool that needs no daemon.'
  tag severity: 'critical'
  tag nist: ['AC-6', 'SC-39']
  sockets = %w(/var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/crio/crio.sock /run/podman/podman.sock)
  seen, unseen = sockets.partition { |f| container_target.visible?(f) }
  seen.each do |f|
    describe file(f) do
      it { should_not exist }
    end
  end
  unless unseen.empty?
    describe 'Sockets that were not looked for' do
      skip "The user of this scan may not look for #{unseen.join(', ')}"
    end
  end
end

control 'secrets-02' do
  impact 0.7
  title 'No secrets stand in files that set the environment'
  desc 'A password in such a file is in every copy of the image and in every process.'
  desc 'check', 'No setting whose name looks like a secret has a value in the files that shells and services read their environment from.'
  desc 'fix', 'Give secrets to the container when it starts: a mounted Secret, or the platform\'s secret store. Change those that were found.'
  tag severity: 'high'
  tag nist: ['IA-5(7)', 'SC-28']
  secret = Regexp.new(input('secret_names'), Regexp::IGNORECASE)
  files = %w(/etc/environment /etc/profile /etc/bash.bashrc /etc/bashrc /root/.bashrc /root/.profile /root/.bash_profile /.env /app/.env
             /srv/.env /usr/src/app/.env)
  describe 'Settings in environment files that hold a secret' do
    subject do
      files.flat_map do |f|
        container_target.text(f).to_s.lines.map { |l| l[/^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=["']?[^\s"'$]/, 1] }
                        .compact.select { |name| name =~ secret }.map { |name| "#{f}: #{name}" }
      end
    end
    it { should be_empty }
  end
  unread = container_target.unreadable(files)
  unless unread.empty?
    describe 'Environment files that were not looked at' do
      skip "The user of this scan may not read #{unread.join(', ')}"
    end
  end
end

control 'secrets-03' do
  impact 0.7
  title 'No private keys and no credentials are left in the image'
  desc 'Keys that helped to build an image stay in its layers and open what they opened then.'
  desc 'check', "None of the files in which tools keep keys and credentials is in root's home."
  desc 'fix', 'Build with secret mounts (`RUN --mount=type=secret`), in a stage of its own. Change the keys that were found.'
  tag severity: 'high'
  tag nist: ['IA-5(7)', 'SC-28']
  only_if("root's home may not be looked into by the user of this scan") { container_target.visible?('/root/.ssh/id_rsa') }
  describe "Keys and credentials in root's home" do
    subject do
      %w(.ssh/id_rsa .ssh/id_dsa .ssh/id_ecdsa .ssh/id_ed25519 .aws/credentials .azure/accessTokens.json .config/gcloud/credentials.db
         .docker/config.json .git-credentials .gnupg/secring.gpg .kube/config .netrc .pgpass .pypirc .vault-token)
        .map { |f| "/root/#{f}" }.select { |f| file(f).exist? }
    end
    it { should be_empty }
  end
end

control 'secrets-04' do
  impact 0.5
  title 'The token of the service account is there only when it is needed'
  desc 'With the token any code in the container speaks to the Kubernetes API as the pod.'
  desc 'check', 'No token is mounted, unless the input service_account_token says that it is needed.'
  desc 'fix', 'Set automountServiceAccountToken: false in the pod or its service account.'
  tag severity: 'medium'
  tag nist: ['AC-6', 'IA-5']
  only_if('the container needs its token') { !input('service_account_token') }
  describe file('/var/run/secrets/kubernetes.io/serviceaccount/token') do
    it { should_not exist }
  end
end
