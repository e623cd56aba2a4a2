provides :lockdownd_files
unified_mode true

description 'Writes what lockdownd_config, lockdownd_person and lockdownd_grant ask for. They declare it; recipes do not.'

property :settings, Hash,
         description: 'What goes into config.toml. Not set where no lockdownd_config is in the run: the file stays as it is.'
property :people, Array, default: [],
         description: 'Hashes with name, keys, accounts and origin.'
property :grants, Array, default: [],
         description: 'Hashes with label, person, account, expires_at, starts_at, from, reason and origin.'
property :removed_people, Array, default: [],
         description: 'Names of those who are taken out, whoever asks for them, with their grants.'
property :removed_grants, Array, default: [],
         description: 'Labels of the grants that are taken out, whoever asks for them.'

action :create do
  # Chef runs delayed actions after a failed converge too. Not everybody has been heard then: to write now would end the
  # access of all who were not.
  if $!.nil? # rubocop:disable Style/SpecialGlobalVars
    write_files
  else
    Chef::Log.warn("#{new_resource}: the converge failed, so lockdownd's files stay as they are, and nobody's access changes")
  end
end

# Has to come after the action: `action` replaces a default of :nothing by itself.
default_action :nothing

action_class do
  include LockdowndCookbook::Accumulated

  # config.toml and the people may only hold together when both change: an account becomes exempt, say, and is taken from
  # whoever had it. So the new config.toml is laid beside the old one first, hidden, and the people are judged with it.
  def write_files
    with_config = !new_resource.settings.nil?
    write_config_draft if with_config
    written = [write_people(with_config), (write_config if with_config)].compact
    if written.any?(&:updated_by_last_action?)
      service 'lockdownd' do
        action :reload
      end
    end
    look_what_is_in_force unless whyrun_mode?
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
    # Who is taken out stays out, whichever resource came first.
    gone = new_resource.removed_people
    people = merged(new_resource.people.reject { |one| gone.include?(one['name']) }, %w(name))
    grants = new_resource.grants.reject { |one| gone.include?(one['person']) || new_resource.removed_grants.include?(one['label']) }
    grants = merged(grants, %w(person account expires_at))
    # In why-run neither the package nor the draft has to be there: nothing can be judged.
    dry = whyrun_mode?
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
      verify "lockdownctl check #{draft}--as #{LockdowndCookbook::PEOPLE} %{path}" unless dry
    end
  end

  def write_config
    settings = new_resource.settings
    dry = whyrun_mode?
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
      verify "lockdownctl check --as #{LockdowndCookbook::CONFIG} %{path}" unless dry
    end
  end

  # A converge that leaves the instance in observe although enforce is asked for, or with an older configuration, has failed.
  def look_what_is_in_force
    wanted = new_resource.settings && new_resource.settings['mode'].to_s
    return unless wanted == 'enforce'

    status = nil
    in_force = LockdowndCookbook::TRIES.times.any? do |n|
      sleep(1) if n > 0
      status = JSON.parse(shell_out!('lockdownctl', 'status', '--json').stdout)
      status['mode'] == wanted && status['config']['refused'].nil?
    end
    return if in_force

    why = [status['config']['refused'], *status['obstacles']].compact
    raise LockdowndCookbook::Refused, "lockdownd is in #{status['mode']}, not in enforce as node['lockdownd']['config']['mode'] " \
                                      "asks:\n#{why.map { |one| "- #{one}\n" }.join}Mend it, then look with: lockdownctl plan"
  end
end
