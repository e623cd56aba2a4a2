provides :lockdownd_install
unified_mode true

description 'Installs the package lockdownd from a .deb or from an apt repository. It starts in observe, which changes nothing.'

property :source, String,
         description: 'A .deb: a path, or a URL.'
property :checksum, String, regex: /\A\h{64}\z/, coerce: proc { |value| value.downcase },
         description: 'Its SHA-256. A URL needs it.'
property :version, String,
         description: 'The version to install from an apt repository; without it, the newest there.'
property :repository, Hash, coerce: proc { |value| LockdowndCookbook.plain(value) },
         description: 'An apt repository: uri, distribution, components, key. Without it, those that the instance has.'

default_action :install

action :install do
  if new_resource.source
    install_file(fetched)
  else
    add_repository if new_resource.repository
    install_from_repository
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

    path = ::File.join(Chef::Config[:file_cache_path], 'lockdownd.deb')
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

  def add_repository
    given = new_resource.repository.compact
    known = %w(uri distribution components key)
    unknown = given.keys - known
    unless unknown.empty?
      raise LockdowndCookbook::Refused, "#{new_resource} repository['#{unknown.first}'] is not known; known here: #{known.join(', ')}"
    end

    apt_repository 'lockdownd' do
      given.each { |name, value| public_send(name, value) }
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
