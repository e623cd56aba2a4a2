module LockdowndCookbook
  CONFIG = '/etc/lockdownd/config.toml'.freeze
  # Hidden, so that the daemon and its check leave it alone.
  CONFIG_DRAFT = '/etc/lockdownd/.config.toml'.freeze
  PEOPLE = '/etc/lockdownd/conf.d/chef.toml'.freeze
  # What the package's own config.toml says.
  AS_INSTALLED = { 'mode' => 'observe' }.freeze
  KEYRING = '/etc/apt/keyrings/lockdownd.asc'.freeze
  # How often, a second apart, the daemon is asked whether it enforces.
  TRIES = 10

  # How lockdownd_config, lockdownd_person and lockdownd_grant come together: each adds its share to the one lockdownd_files
  # of the run, which writes when everybody has.
  module Accumulated
    # The one lockdownd_files of this run. It writes when the converge is over.
    def files_of_this_run
      with_run_context(:root) do
        edit_resource(:lockdownd_files, 'chef') do
          action :nothing
          delayed_action :create
        end
      end
    end

    # Where a resource was declared, for the comment in the file: no path and no line, which change with every edit.
    def declared_in(resource)
      place = [resource.cookbook_name, resource.recipe_name].compact.join('::')
      place.empty? ? resource.to_s : "#{resource} in #{place}"
    end

    # The same entry from two places is one, of both origins; what is not the same stays, for the daemon to judge. A grant's
    # label is the recipe's alone.
    def merged(entries, sorted_by)
      same = entries.group_by { |entry| entry.reject { |key, _| %w(origin label).include?(key) } }
      merged = same.map { |entry, all| entry.merge('origin' => all.map { |one| one['origin'] }.uniq.join(', ')) }
      merged.sort_by { |entry| sorted_by.map { |key| entry[key].to_s } }
    end
  end

  # Hashes within hashes as plain ones, keyed by strings.
  def self.plain(value)
    case value
    when Hash then value.to_h { |key, entry| [key.to_s, plain(entry)] }
    when Array then value.map { |entry| plain(entry) }
    else value
    end
  end
end
