title 'lockdownd by its default recipe'

control 'installed' do
  impact 1.0
  title 'The package is installed, and its daemon runs and starts at boot'
  describe package('lockdownd') do
    it { should be_installed }
  end
  describe service('lockdownd') do
    it { should be_enabled }
    it { should be_running }
  end
end

control 'configured' do
  impact 1.0
  title 'What is in force is what the files say, and only root writes them'
  %w(/etc/lockdownd/config.toml /etc/lockdownd/conf.d/chef.toml).each do |path|
    describe file(path) do
      it { should be_file }
      its('owner') { should eq 'root' }
      its('mode') { should cmp '0644' }
    end
  end
  describe command('lockdownctl check') do
    its('exit_status') { should eq 0 }
  end
  describe json(command: 'lockdownctl status --json') do
    its('mode') { should eq 'observe' }
    its(%w(config refused)) { should be_nil }
    its('people') { should eq 1 }
  end
end
