provides :lockdownd_files
unified_mode true

description 'Writes what lockdownd_config, lockdownd_person and lockdownd_grant ask for. They declare it; recipes do not.'

property :settings, Hash,
         description: 'What goes into config.toml. Not set where no lockdownd_config is in the run: the file stays as it is.'
property :people, Array, default: [],
         description: 'Hashes with name, keys, accounts and origin.'
property :grants, Array, default: [],
         description: 'Hashes with person, account, expires_at, starts_at, from, reason and origin.'

action :create do
  # Chef runs delayed actions after a failed converge too. Not everybody has been heard then: to write now would end the
  # leave of all who were not.
  if $!.nil? # rubocop:disable Style/SpecialGlobalVars
    write_files
  else
    Chef::Log.warn("#{new_resource}: the converge failed, so lockdownd's files stay as they are, and nobody's leave changes")
  end
end

# Has to come after the action: `action` replaces a default of :nothing by itself.
default_action :nothing

action_class do
  include LockdowndCookbook::Accumulated

  # config.toml and the people may only hold together when both change: an account becomes exempt, say, and is taken from
  # whoever had it. So the new config.toml is laid beside the old one first, hidden, and the people are judged with it.
  def write_files
    service 'lockdownd' do
      action :nothing
    end

    with_config = !new_resource.settings.nil?
    write_config_draft if with_config
    write_people(with_config && !whyrun_mode?)
    write_config if with_config
  end

  def write_config_draft
    settings = new_resource.settings
    template LockdowndCookbook::CONFIG_DRAFT do
      cookbook 'lockdownd'
      source 'config.toml.erb'
      helpers LockdowndCookbook::Toml
      variables(settings: settings)
      owner 'root'
      group 'root'
      mode '0644'
      backup false
      manage_symlink_source false
      force_unlink true
    end
  end

  def write_people(with_draft)
    people = merged(new_resource.people, %w(name))
    grants = merged(new_resource.grants, %w(person account expires_at))
    draft = with_draft ? "--as #{LockdowndCookbook::CONFIG} #{LockdowndCookbook::CONFIG_DRAFT} " : ''
    template LockdowndCookbook::PEOPLE do
      cookbook 'lockdownd'
      source 'people.toml.erb'
      helpers LockdowndCookbook::Toml
      variables(people: people, grants: grants)
      owner 'root'
      group 'root'
      mode '0644'
      backup false
      manage_symlink_source false
      force_unlink true
      verify "lockdownctl check #{draft}--as #{LockdowndCookbook::PEOPLE} %{path}"
      notifies :reload, 'service[lockdownd]', :delayed
    end
  end

  def write_config
    settings = new_resource.settings
    template LockdowndCookbook::CONFIG do
      cookbook 'lockdownd'
      source 'config.toml.erb'
      helpers LockdowndCookbook::Toml
      variables(settings: settings)
      owner 'root'
      group 'root'
      mode '0644'
      manage_symlink_source false
      force_unlink true
      verify "lockdownctl check --as #{LockdowndCookbook::CONFIG} %{path}"
      notifies :reload, 'service[lockdownd]', :delayed
    end
  end
end
