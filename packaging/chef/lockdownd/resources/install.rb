provides :lockdownd_install
unified_mode true

description 'Installs the package lockdownd from a .deb or an apt repository, or removes it. It starts in observe, which changes nothing.'

property :source, String,
         description: 'A .deb: a path, or a URL.'
property :checksum, String, regex: /\A\h{64}\z/, coerce: proc { |value| value.downcase },
         description: 'Its SHA-256. A URL needs it.'
property :version, String,
         description: 'The version to install from an apt repository; without it, the newest there.'
property :repository, Hash, coerce: proc { |value| LockdowndCookbook.plain(value) },
         description: 'An apt repository: uri, distribution, components, and key: the text of its public key, or a path or URL of it.'

default_action :install

action :install do
  if new_resource.source
    install_file(fetched)
  else
    add_repository if new_resource.repository
    install_from_repository
  end
end

# The configuration, the records and what was removed stay; every grant ends, on record.
action :remove do
  apt_package 'lockdownd' do
    action :remove
  end
end

action_class do
  # The path of the .deb, once its checksum has been looked at, if there is one.
  def fetched
    from = new_resource.source
    sha256 = new_resource.checksum
    is_url = from.match?(%r{\A[a-z]+://}i)
    raise LockdowndCookbook::Refused, "#{new_resource} checksum is missing: a URL needs it (sha256sum FILE)" if is_url && sha256.nil?
    return from if sha256.nil?

    # By its checksum: of a file that is there already, Chef asks the server only whether it has changed since.
    path = ::File.join(Chef::Config[:file_cache_path], "lockdownd-#{sha256}.deb")
    remote_file path do
      source is_url ? from : "file://#{from}"
      checksum sha256
      mode '0600'
    end
    path
  end

  def install_file(path)
    # dpkg brings no dependencies along. These are on any instance that somebody logs in to.
    apt_package %w(libpam-modules libpam-runtime openssh-server procps)
    dpkg_package 'lockdownd' do
      source path
      # config.toml is ours: dpkg asks nobody about it.
      options %w(--force-confdef --force-confold)
      action :upgrade
    end
  end

  # Written here: Chef 17's apt_repository needs apt-key(8), which Debian 13 does not have.
  def add_repository
    given = repository
    add_key(given['key']) if given['key']
    lines = { 'Types' => 'deb', 'URIs' => given['uri'], 'Suites' => given['distribution'], 'Components' => given['components'],
              'Signed-By' => given['key'] && LockdowndCookbook::KEYRING }
    text = lines.compact.map { |name, value| "#{name}: #{Array(value).join(' ')}\n" }.join
    sources = file '/etc/apt/sources.list.d/lockdownd.sources' do
      content text
      owner 'root'
      group 'root'
      mode '0644'
    end
    return unless sources.updated_by_last_action?

    apt_update 'lockdownd' do
      action :update
    end
  end

  # What is asked for, once its shape has been looked at.
  def repository
    given = { 'components' => %w(main) }.merge(new_resource.repository.compact)
    known = %w(uri distribution components key)
    unknown = given.keys - known
    refuse("['#{unknown.first}'] is not known; known here: #{known.join(', ')}") unless unknown.empty?
    %w(uri distribution components).each do |name|
      words = Array(given[name])
      refuse("['#{name}'] is missing") if words.empty?
      refuse("['#{name}'] has to be words without blanks") unless words.all? { |word| word.to_s.match?(/\A\S+\z/) }
    end
    given
  end

  def refuse(why)
    raise LockdowndCookbook::Refused, "#{new_resource} repository#{why}"
  end

  def add_key(key)
    directory ::File.dirname(LockdowndCookbook::KEYRING) do
      mode '0755'
    end
    if key.include?('-----BEGIN PGP PUBLIC KEY BLOCK-----')
      file LockdowndCookbook::KEYRING do
        content key
        owner 'root'
        group 'root'
        mode '0644'
      end
    else
      remote_file LockdowndCookbook::KEYRING do
        source key.match?(%r{\A[a-z]+://}i) ? key : "file://#{key}"
        mode '0644'
      end
    end
  end

  def install_from_repository
    wanted = new_resource.version
    apt_package 'lockdownd' do
      version wanted if wanted
      options %w(-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
      action wanted ? :install : :upgrade
    end
  end
end
