control 'house-01' do
  impact 0.7
  title 'Only root has the user id 0'
  describe passwd.uids('0').users do
    it { should cmp ['root'] }
  end
end

control 'house-02' do
  impact 0.5
  title 'Nobody of those who may not be there is there'
  input('forbidden_users').each do |name|
    describe user(name) do
      it { should_not exist }
    end
  end
end

control 'house-03' do
  impact 0.3
  title 'The host file knows localhost'
  describe house_file('/etc/hosts') do
    its('lines') { should include(/localhost/) }
  end
end

control 'house-04' do
  impact 0.9
  title 'There is a banner'
  describe file('/etc/house-banner') do
    it { should exist }
  end
end
